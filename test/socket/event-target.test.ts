import { EventEmitter } from 'node:events'
import t from 'tap'
import { EventTargetEmitter } from '../../lib/socket/event-target.js'
import { WebSocket } from '../../lib/socket/websocket.js'
import { binary, close, closing, connect, text, tick } from './harness.js'

interface Events {
  open: []
  message: [data: Buffer | ArrayBuffer | Buffer[], isBinary: boolean]
  close: [code: number, reason: Buffer]
  error: [error: unknown]
}

const make = (): EventTargetEmitter<Events> => new EventTargetEmitter<Events>()

t.test('each event has its type, its target and its own properties', async t => {
  const target = make()
  const events: object[] = []
  target.addEventListener('open', event => events.push(event))
  target.addEventListener('message', event => events.push(event))
  target.addEventListener('close', event => events.push(event))
  target.addEventListener('error', event => events.push(event))
  const error = new Error('broken')
  const data = Buffer.from('grün')
  target.emit('open')
  target.emit('message', data, false)
  target.emit('message', data, true)
  target.emit('message', [data], true)
  target.emit('close', 1000, Buffer.from('schön'))
  target.emit('close', 1005, Buffer.from(''))
  target.emit('close', 1006, Buffer.from(''))
  target.emit('error', error)
  target.emit('error', 'no error')
  t.strictSame(events, [
    { type: 'open', target },
    { type: 'message', target, data: 'grün' },
    { type: 'message', target, data },
    { type: 'message', target, data: [data] },
    { type: 'close', target, code: 1000, reason: 'schön', wasClean: true },
    { type: 'close', target, code: 1005, reason: '', wasClean: true },
    { type: 'close', target, code: 1006, reason: '', wasClean: false },
    { type: 'error', target, error, message: 'broken' },
    { type: 'error', target, error: 'no error', message: 'no error' }
  ])
})

t.test('a function is called with the target as this, and a handler object with itself', async t => {
  const target = make()
  const seen: unknown[] = []
  const handler = {
    handleEvent(): void {
      seen.push('replaced below')
    }
  }
  target.addEventListener('open', function (this: unknown) {
    seen.push(this)
  } as () => void)
  target.addEventListener('open', handler)
  handler.handleEvent = function (this: unknown) {
    seen.push(this)
  }
  target.emit('open')
  t.equal(seen.length, 2)
  t.equal(seen[0], target)
  t.equal(seen[1], handler)
})

t.test('a once listener is called once, and duplicates are ignored per event', async t => {
  const target = make()
  const seen: string[] = []
  const listener = (event: { type: string }): void => void seen.push(event.type)
  target.addEventListener('open', listener, { once: true })
  target.addEventListener('open', listener)
  target.addEventListener('close', listener)
  target.addEventListener('close', listener)
  t.equal(target.listenerCount('open'), 1)
  t.equal(target.listenerCount('close'), 1)
  target.emit('open')
  target.emit('open')
  target.emit('close', 1000, Buffer.alloc(0))
  target.emit('close', 1000, Buffer.alloc(0))
  t.strictSame(seen, ['open', 'close', 'close'])
  target.addEventListener('open', listener, { once: false })
  target.emit('open')
  target.emit('open')
  t.equal(seen.length, 5)
})

t.test('a once listener may add itself again while it is called', async t => {
  const target = make()
  let calls = 0
  const listener = (): void => {
    calls++
    target.addEventListener('open', listener, { once: true })
  }
  listener()
  for (let i = 0; i < 3; i++) target.emit('open')
  t.equal(calls, 4)
})

t.test('removeEventListener removes only the given listener, however it was added', async t => {
  const target = make()
  const seen: string[] = []
  const fn = (): void => void seen.push('function')
  const handler = { handleEvent: (): void => void seen.push('object') }
  target.removeEventListener('open', fn)
  target.addEventListener('open', fn)
  target.addEventListener('open', handler)
  target.removeEventListener('close', fn)
  target.removeEventListener('open', fn)
  target.removeEventListener('open', fn)
  target.emit('open')
  target.removeEventListener('open', handler)
  target.emit('open')
  t.strictSame(seen, ['object'])
  t.equal(target.listenerCount('open'), 0)
  target.addEventListener('open', fn)
  target.emit('open')
  t.strictSame(seen, ['object', 'function'])
})

t.test('a listener can be added again once after removeAllListeners', async t => {
  const target = make()
  let calls = 0
  const listener = (): void => void calls++
  target.addEventListener('open', listener)
  target.removeAllListeners()
  target.addEventListener('open', listener)
  target.addEventListener('open', listener)
  target.emit('open')
  t.equal(calls, 1)
  target.removeEventListener('open', listener)
  target.emit('open')
  t.equal(calls, 1)
})

for (const type of ['open', 'message', 'close', 'error'] as const) {
  t.test(`on${type} holds one listener`, async t => {
    const target = make()
    const seen: string[] = []
    const first = function (this: unknown, event: { type: string }): void {
      seen.push(`first ${event.type} ${this === target}`)
    }
    const second = (event: { type: string }): void => void seen.push(`second ${event.type}`)
    const emit = (): unknown =>
      EventEmitter.prototype.emit.call(target as EventEmitter, type, Buffer.alloc(0), false)
    t.equal(target[`on${type}`], null)
    target[`on${type}`] = first
    t.equal(target[`on${type}`], first)
    emit()
    target[`on${type}`] = second
    t.equal(target[`on${type}`], second)
    emit()
    target[`on${type}`] = null
    t.equal(target[`on${type}`], null)
    t.equal(target.listenerCount(type), 0)
    t.strictSame(seen, [`first ${type} true`, `second ${type}`])
  })
}

t.test('an attribute and addEventListener may use the same listener', async t => {
  const target = make()
  let calls = 0
  const listener = (): void => void calls++
  target.addEventListener('open', listener)
  target.onopen = listener
  target.emit('open')
  t.equal(calls, 2)
  target.onopen = null
  target.emit('open')
  t.equal(calls, 3)
  target.onopen = listener
  target.removeEventListener('open', listener)
  target.emit('open')
  t.equal(calls, 4)
})

t.test('a value that is not a function clears an attribute', async t => {
  const target = make()
  target.onopen = () => t.fail('called')
  Reflect.set(target, 'onopen', 'not a function')
  t.equal(target.onopen, null)
  target.emit('open')
})

t.test('a connection works with the API of browsers', async t => {
  const { socket, peer } = await connect(t)
  const seen: unknown[] = []
  socket.onmessage = event => seen.push(event.data)
  socket.onclose = ({ code, reason, wasClean }) => seen.push({ code, reason, wasClean })
  peer.send(text('text'), binary(Buffer.from([1, 2])), close(4000, 'bye'))
  t.equal(await closing(socket), '4000 bye')
  t.strictSame(seen, ['text', Buffer.from([1, 2]), { code: 4000, reason: 'bye', wasClean: true }])
})

t.test(
  'binaryType can change at any time and determines the type of binary messages; text stays text',
  async t => {
    const { socket, peer } = await connect(t)
    t.equal(socket.binaryType, 'nodebuffer')
    const data: unknown[] = []
    const emitted: unknown[] = []
    socket.on('message', message => emitted.push(message))
    socket.addEventListener('message', event => {
      data.push(event.data)
      socket.binaryType = socket.binaryType === 'nodebuffer' ? 'arraybuffer' : 'fragments'
    })
    const bytes = Buffer.from([1, 2, 3])
    peer.send(binary(bytes), binary(bytes), binary(bytes), text('abc'), close(1000))
    await closing(socket)
    t.ok(Buffer.isBuffer(data[0]))
    t.ok(data[1] instanceof ArrayBuffer)
    t.strictSame(data, [bytes, Uint8Array.from(bytes).buffer, [bytes], 'abc'])
    t.strictSame(emitted, [bytes, Uint8Array.from(bytes).buffer, [bytes], Buffer.from('abc')])
  }
)

t.test('a violation causes an error event with the broken rule, then an unclean close', async t => {
  const { socket, peer } = await connect(t)
  const seen: unknown[] = []
  socket.addEventListener('error', ({ error, message, target }) => {
    seen.push([Reflect.get(error, 'code'), message === error.message, target === socket])
  })
  socket.addEventListener('close', ({ code, wasClean, target }) =>
    seen.push([code, wasClean, target === socket])
  )
  socket.addEventListener('message', () => t.fail('no message'))
  peer.send(text('unmasked', { key: null }))
  t.equal(await peer.next(), 'close 1002 frame not masked')
  await closing(socket)
  t.strictSame(seen, [
    ['FST_UPGRADE_UNMASKED_FRAME', true, true],
    [1006, false, true]
  ])
})

t.test('listeners of every kind that throw or reject are reported to onError', async t => {
  const { socket, peer, errors } = await connect(t)
  const fail = (what: string) => async (): Promise<void> => {
    throw new Error(what)
  }
  socket.addEventListener('message', fail('function'))
  socket.addEventListener('message', { handleEvent: fail('object') })
  socket.addEventListener('message', fail('once'), { once: true })
  socket.onmessage = fail('attribute')
  const closed = closing(socket)
  socket.onclose = () => {
    throw new Error('thrown')
  }
  peer.send(text('x'), close(1000))
  await closed
  await tick()
  t.strictSame(errors.map(String).sort(), [
    'Error: attribute',
    'Error: function',
    'Error: object',
    'Error: once',
    'Error: thrown'
  ])
})

t.test('a listener added like in a browser is a consumer, too', async t => {
  const { socket, peer } = await connect(t)
  t.ok(socket instanceof WebSocket)
  peer.send(text('a'), text('b'), text('c'), text('d'))
  const take = (set: (resolve: (data: unknown) => void) => void): Promise<unknown> => new Promise(set)
  t.equal(
    await take(resolve => socket.addEventListener('message', e => resolve(e.data), { once: true })),
    'a'
  )
  await tick()
  t.equal(
    await take(resolve => {
      socket.onmessage = event => {
        socket.onmessage = null
        resolve(event.data)
      }
    }),
    'b'
  )
  await tick()
  const handler = {
    handleEvent: (): void => {}
  }
  const third = take(resolve => {
    handler.handleEvent = (...[event]: { data?: unknown }[]) => {
      socket.removeEventListener('message', handler)
      resolve(event?.data)
    }
  })
  socket.addEventListener('message', handler)
  t.equal(await third, 'c')
  await tick()
  t.equal(await take(resolve => socket.once('message', data => resolve(String(data)))), 'd')
})
