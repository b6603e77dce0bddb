import { randomBytes } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { WebSocket as WsWebSocket } from 'ws'
import { prepare, type WebSocket } from '../../lib/index.js'
import {
  close,
  connectRaw,
  ERROR,
  handshake,
  listen,
  makeApp,
  Signal,
  text,
  tick,
  watchProcess,
  withDeadline
} from '../helpers/app.js'
import { frame } from '../protocol/wire.js'
import {
  BROWSER,
  compressedFrame,
  deflated,
  inflated,
  MIB,
  nextFrame,
  openRaw,
  TAKEOVER,
  Window
} from './deflate-client.js'

// Messages that are compressed synchronously, in the thread pool and not at all follow each other.

const WAYS = { 'with takeover': TAKEOVER, 'without takeover': true } as const

/** A message that is compressed in the thread pool. */
const large = (mark: string): string => `${mark} ${'abcdefgh'.repeat(20_000)} ${mark}`
const small = (mark: string): string => `${mark} ${'x'.repeat(2000)}`

/** The events of a client of `ws`, in order, until its close. */
async function receiveAll(t: Test, port: number, path: string): Promise<string[]> {
  const socket = new WsWebSocket(`ws://127.0.0.1:${port}${path}`)
  t.teardown(() => socket.terminate())
  const events: string[] = []
  socket.on('message', (data, isBinary) =>
    events.push(`${isBinary ? 'binary' : 'text'} ${brief(String(data))}`)
  )
  socket.on('ping', data => events.push(`ping ${data}`))
  socket.on('pong', data => events.push(`pong ${data}`))
  const [code, reason] = await withDeadline(once(socket, 'close'), 20_000, 'close')
  return [...events, `close ${code} ${reason}`.trimEnd()]
}

/** The mark at the beginning, and the length. */
const brief = (message: string): string => `${message.split(' ')[0]} ${message.length}`

/** Sends messages of every kind, and records the callbacks. */
function sendAll(socket: WebSocket, called: string[]): string[] {
  const sent: string[] = []
  const note = (name: string) => (error?: Error) => void called.push(error ? `${name} ${error}` : name)
  const shared = [prepare(large('shared')), prepare(Buffer.from(small('shared')))]
  for (let i = 0; i < 5; i++) {
    const messages: readonly (readonly [string, boolean | undefined])[] = [
      [small(`small${i}`), true],
      [large(`large${i}`), true],
      [small(`behind${i}`), true],
      [large(`plain${i}`), false],
      [`tiny${i}`, true],
      ['', true],
      [large(`other${i}`), true]
    ]
    for (const [data, compress] of messages) {
      socket.send(data, { compress }, note(brief(data)))
      sent.push(`text ${brief(data)}`)
    }
    socket.ping(`${i}`, false, note(`ping ${i}`))
    sent.push(`ping ${i}`)
    for (const message of shared) {
      socket.send(message, note(`shared ${message.isBinary}`))
      sent.push(`${message.isBinary ? 'binary' : 'text'} ${brief(String(message.payload))}`)
    }
    socket.send(Buffer.from(large('frag')), { fin: false, binary: true }, note('fragment'))
    socket.pong(`${i}`, false, note(`pong ${i}`))
    sent.push(`pong ${i}`, `binary frag ${large('frag').length + 1}`)
    socket.send('!', note('last fragment'))
  }
  return sent
}

for (const [way, perMessageDeflate] of Object.entries(WAYS)) {
  t.test(`all messages and control frames arrive in order before the Close frame, ${way}`, async t => {
    const { app } = await makeApp(t, { perMessageDeflate, maxBufferedAmount: 64 * MIB })
    const called: string[] = []
    let sent: string[] = []
    app.get('/', { websocket: true }, socket => {
      sent = sendAll(socket, called)
      socket.close(4000, 'done')
      socket.send('too late', error => called.push(error ? 'NotOpen' : 'sent'))
    })
    const events = await receiveAll(t, await listen(app), '/')
    t.strictSame(events, [...sent, 'close 4000 done'])
    // Each once, in the order of the frames; the callback of the late send does not wait for others.
    t.equal(called.length, 5 * 13 + 1)
    t.equal(called.filter(name => name === 'NotOpen').length, 1, called.join())
    const order = called.filter(name => /^(small|large|behind|plain|tiny|other)\d/.test(name))
    const expected = sent.filter(name => /^text (small|large|behind|plain|tiny|other)\d/.test(name))
    t.strictSame(
      order,
      expected.map(name => name.slice(5))
    )
  })

  t.test(`the answer to a Close frame is sent after earlier messages, ${way}`, async t => {
    const { app } = await makeApp(t, { perMessageDeflate, maxPayload: 4 * MIB })
    app.get('/', { websocket: true }, socket => {
      socket.on('message', data => socket.send(String(data)))
    })
    const { client } = await openRaw(t, await listen(app), '/')
    client.write(compressedFrame(deflated(large('one'))), text(small('two')), close(4001))
    const window = new Window()
    const read = async (): Promise<string> => {
      const { opcode, rsv, payload } = await nextFrame(client)
      if (opcode === 8) return `close ${payload.readUInt16BE(0)}`
      return rsv === 4 ? brief(String(window.inflated(payload))) : brief(String(payload))
    }
    t.strictSame(
      [await read(), await read(), await read()],
      [brief(large('one')), brief(small('two')), 'close 4001']
    )
    await client.end()
  })

  t.test(`no message is lost when the client ends its side after its Close frame, ${way}`, async t => {
    const { app } = await makeApp(t, { perMessageDeflate, maxPayload: 4 * MIB })
    app.get('/', { websocket: true }, socket => {
      socket.on('message', data => socket.send(String(data)))
    })
    const { client } = await openRaw(t, await listen(app), '/')
    client.write(text(large('one')), close(4001))
    client.socket.end()
    const { opcode, rsv, payload } = await nextFrame(client)
    t.strictSame({ opcode, rsv }, { opcode: 1, rsv: 4 })
    t.equal(String(inflated(payload)), large('one'))
    t.equal((await nextFrame(client)).opcode, 8)
    await client.end()
  })

  t.test(`messages of a client and the control frames between them stay in order, ${way}`, async t => {
    const { app } = await makeApp(t, { perMessageDeflate, maxPayload: 4 * MIB })
    const events: string[] = []
    const closed = new Signal<number>()
    app.get('/', { websocket: true }, socket => {
      socket.on('message', data => events.push(brief(String(data))))
      socket.on('ping', data => events.push(`ping ${data}`))
      socket.on('close', code => closed.fire(code))
    })
    const port = await listen(app)
    const offer = perMessageDeflate === true ? BROWSER : 'permessage-deflate; client_no_context_takeover'
    const { client } = await openRaw(t, port, '/', offer)
    // Noise, as compressed data must be large to be inflated in the thread pool.
    const noise = randomBytes(30_000).toString('hex')
    const expected: string[] = []
    for (let i = 0; i < 5; i++) {
      client.write(
        compressedFrame(deflated(`large${i} ${noise}`)),
        frame(9, `${i}`),
        compressedFrame(deflated(`small${i}`)),
        text(`plain${i}`)
      )
      expected.push(`large${i} 60007`, `ping ${i}`, `small${i} 6`, `plain${i} 6`)
    }
    client.write(close(1000))
    await client.end()
    client.socket.end()
    t.equal(await closed.wait('close'), 1000)
    t.strictSame(events, expected)
  })

  t.test(`after terminate() nothing more is delivered, even behind a large message, ${way}`, async t => {
    const { app } = await makeApp(t, { perMessageDeflate, maxPayload: 4 * MIB })
    const events: string[] = []
    const closed = new Signal<number>()
    app.get('/', { websocket: true }, socket => {
      socket.on('message', data => {
        events.push(brief(String(data)))
        socket.terminate()
      })
      socket.on('close', code => closed.fire(code))
    })
    const { client } = await openRaw(t, await listen(app), '/')
    const message = `large ${randomBytes(30_000).toString('hex')}`
    client.write(Buffer.concat([compressedFrame(deflated(message)), text('more'), text('and more')]))
    t.equal(await closed.wait('close'), 1006)
    await tick()
    t.strictSame(events, [brief(message)])
  })

  t.test(`a large message is delivered after reading resumes, ${way}`, async t => {
    const { app } = await makeApp(t, { perMessageDeflate, maxPayload: 4 * MIB })
    const sockets: WebSocket[] = []
    const paused = new Signal()
    const events: string[] = []
    app.get('/', { websocket: true }, socket => {
      sockets.push(socket)
      socket.on('message', data => {
        events.push(brief(String(data)))
        socket.send('got', { compress: false })
        if (String(data) !== 'pause') return
        // The next message is in the thread pool by the time the pause takes effect.
        socket.pause()
        paused.fire()
      })
    })
    const { client } = await openRaw(t, await listen(app), '/')
    const message = `large ${randomBytes(30_000).toString('hex')}`
    client.write(text('pause'), compressedFrame(deflated(message)), text('last'))
    await paused.wait('pause')
    await setTimeout(1)
    t.strictSame(events, ['pause 5'])
    sockets[0]?.resume()
    for (let i = 0; i < 3; i++) t.equal(String((await nextFrame(client)).payload), 'got')
    t.strictSame(events, ['pause 5', brief(message), 'last 4'])
  })

  t.test(
    `a violation detected in the thread pool is answered although a listener pauses, ${way}`,
    async t => {
      const { app } = await makeApp(t, { perMessageDeflate, maxPayload: 4 * MIB })
      app.get('/', { websocket: true }, socket => {
        socket.on('message', () => {})
        socket.on('error', () => socket.pause())
      })
      const { client } = await openRaw(t, await listen(app), '/')
      client.write(compressedFrame(Buffer.concat([deflated(randomBytes(20_000)), Buffer.alloc(9, 0xff)])))
      const { opcode, payload } = await nextFrame(client)
      t.strictSame([opcode, payload.readUInt16BE(0)], [8, 1007])
    }
  )
}

t.test('connections that end during work in the thread pool do not affect later ones', async t => {
  const uncaught = watchProcess(t)
  const { app, log } = await makeApp(t, { perMessageDeflate: TAKEOVER, maxPayload: 4 * MIB })
  const called: unknown[] = []
  const begun = new EventEmitter()
  let sends = 0
  app.get('/', { websocket: true }, socket => {
    socket.on('message', () => {})
    for (let i = 0; i < 3; i++, sends++)
      socket.send(large(`${i}`), error => called.push(error && Reflect.get(error, 'code')))
    begun.emit('begun')
  })
  app.get('/echo', { websocket: true }, socket => {
    socket.on('message', data => socket.send(String(data)))
  })
  const port = await listen(app)
  const message = Buffer.concat([compressedFrame(deflated(randomBytes(40_000)), 2), text('x')])
  const leave = async (i: number): Promise<void> => {
    const client = await connectRaw(t, port)
    const offer = ['permessage-deflate', 'permessage-deflate; server_no_context_takeover'][i % 2]
    const head = handshake('/', { 'Sec-WebSocket-Extensions': offer })
    const opened = withDeadline(once(begun, 'begun'), 10_000, 'handler')
    client.write(head, message)
    await opened
    if (i % 4 < 2) client.socket.resetAndDestroy()
    else client.socket.destroy()
  }
  for (let round = 0; round < 5; round++) {
    await Promise.all(Array.from({ length: 20 }, (_, i) => leave(i)))
  }
  const clients = app.websocketServer.clients
  const empty = async (): Promise<void> => {
    while (clients.size > 0) await tick()
  }
  await withDeadline(empty(), 10_000, 'no clients')
  await tick()
  t.equal(sends, 300)
  t.equal(called.length, sends, 'every callback was called once')
  t.ok(called.includes('FST_UPGRADE_NOT_OPEN'), 'some sends were too late')
  // More messages than jobs run at a time: no unfinished job has kept its slot.
  await Promise.all(
    Array.from({ length: 20 }, async (_, i) => {
      const { client } = await openRaw(t, port, '/echo')
      client.write(compressedFrame(deflated(large(`echo${i}`))))
      t.equal(brief(String(inflated((await nextFrame(client)).payload))), brief(large(`echo${i}`)))
    })
  )
  t.strictSame(log.at(ERROR), [])
  t.strictSame(uncaught, [])
})
