import { EventEmitter } from 'node:events'
import t from 'tap'
import { WebSocket } from '../../lib/socket/websocket.js'
import { connect, KINDS, nextEvent, text, tick } from './harness.js'

t.test('the four states are on the class and on each instance', async t => {
  const { socket } = await connect(t)
  const states = { CONNECTING: 0, OPEN: 1, CLOSING: 2, CLOSED: 3 }
  for (const [name, value] of Object.entries(states)) {
    t.equal(Reflect.get(WebSocket, name), value)
    t.equal(Reflect.get(socket, name), value)
  }
  t.equal(socket.readyState, socket.OPEN)
})

t.test('a new socket has the documented property values', async t => {
  const { socket } = await connect(t, { protocol: 'chat.v2' })
  t.ok(socket instanceof EventEmitter)
  t.equal(socket.protocol, 'chat.v2')
  t.equal(socket.extensions, '')
  t.equal(socket.url, '')
  t.equal(socket.binaryType, 'nodebuffer')
  t.equal(socket.bufferedAmount, 0)
  t.equal(socket.isPaused, false)
})

t.test('own properties may be set', async t => {
  const { socket, peer } = await connect(t)
  const own = {
    id: 7,
    isAlive: true,
    user: { name: 'a' },
    _socket: null,
    on2: () => 1,
    [Symbol.for('x')]: 'y'
  }
  Object.assign(socket, own)
  for (const key of Reflect.ownKeys(own))
    t.equal(Reflect.get(socket, key), Reflect.get(own, key), String(key))
  // Methods may be replaced, too, as instrumentation does.
  const sent: unknown[] = []
  const { send } = socket
  Object.assign(socket, {
    send(this: WebSocket, data: string) {
      sent.push(data)
      return Reflect.apply(send, this, [data])
    }
  })
  socket.send('x')
  t.equal(await peer.next(), 'text x')
  t.strictSame(sent, ['x'])
  const { on } = socket
  Object.assign(socket, {
    on(this: WebSocket, ...args: Parameters<typeof on>) {
      return Reflect.apply(on, this, args)
    }
  })
  peer.send(text('y'))
  t.equal(String((await nextEvent(socket, 'message'))[0]), 'y')
})

t.test('methods keep the names and signatures of an emitter', async t => {
  const { socket } = await connect(t)
  const listener = (): void => {}
  for (const method of ['on', 'addListener', 'prependListener', 'off', 'removeListener'] as const) {
    t.equal(Reflect.apply(socket[method], socket, ['close', listener]), socket)
  }
  t.equal(socket.listenerCount('close'), 1)
  t.equal(socket.removeAllListeners(), socket)
  t.strictSame(socket.eventNames(), [])
  t.throws(() => Reflect.apply(socket.on, socket, ['close', 'no function']), { code: 'ERR_INVALID_ARG_TYPE' })
  t.strictSame(Object.keys(WebSocket.prototype).sort(), ['CLOSED', 'CLOSING', 'CONNECTING', 'OPEN'])
})

for (const over of KINDS) {
  t.test(`over ${over}: messages are echoed`, async t => {
    const { socket, peer, errors } = await connect(t, { over })
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
    for (const size of [0, 1, 125, 126, 4096, 65_535, 65_536, 300_000]) {
      peer.send(text('x'.repeat(size)))
      const frame = await peer.next()
      t.equal(frame.length, size === 0 ? 4 : 5 + size)
    }
    await tick()
    t.strictSame(errors, [])
  })
}

t.test('a constructor call with an address throws, and the error names alternatives', async t => {
  for (const address of ['ws://localhost', new URL('ws://localhost'), null]) {
    const make = (): unknown => Reflect.construct(WebSocket, [address, ['chat'], {}])
    const error = t.throws(make, {
      code: 'FST_UPGRADE_NO_CLIENT',
      message: 'There is no WebSocket client here; use the WebSocket of Node itself, of undici or of ws.'
    })
    t.type(error, TypeError)
  }
})
