import { once } from 'node:events'
import { connect } from 'node:net'
import t, { type Test } from 'tap'
import type { FastifyUpgradeOptions, WebSocketHandler } from '../../lib/index.js'
import {
  type App,
  type Client,
  close,
  connectRaw,
  duration,
  handshake,
  listen,
  makeApp,
  ms,
  open,
  Signal,
  watchProcess
} from '../helpers/app.js'
import { decode, frame } from '../protocol/wire.js'

// Peers that stay connected and do little or nothing, as TCP shows a peer that has disappeared.

/** Longer than any test waits. */
const NEVER = 1_000_000
const MIB = 2 ** 20

interface Served extends App {
  readonly port: number
  readonly code: Signal<number>
  readonly bystander: Client
  readonly uncaught: readonly unknown[]
}

/** A route `/` that signals the end of its connection, and a bystander at `/echo`. */
async function serve(
  t: Test,
  options: FastifyUpgradeOptions,
  work: WebSocketHandler = () => {}
): Promise<Served> {
  const uncaught = watchProcess(t)
  const made = await makeApp(t, { shutdown: { timeout: ms(200) }, ...options })
  const code = new Signal<number>()
  made.app.get('/', { websocket: true }, function (socket, request) {
    socket.on('close', given => code.fire(given))
    return Reflect.apply(work, this, [socket, request])
  })
  made.app.get('/echo', { websocket: true }, socket => {
    socket.on('message', data => socket.send(data, { binary: false }))
  })
  const port = await listen(made.app)
  return { ...made, port, code, uncaught, bystander: await open(t, port, '/echo') }
}

async function checkOthers(t: Test, { app, log, bystander, uncaught }: Served): Promise<void> {
  bystander.socket.send('alive')
  t.equal(await bystander.next(), 'alive')
  t.equal(app.websocketServer.clients.size, 1)
  t.strictSame(
    log.lines.filter(({ level }) => level > 30),
    []
  )
  t.strictSame(uncaught, [])
}

const HEARTBEAT = { interval: ms(100), timeout: ms(60) }

t.test('a peer that disappears without a FIN is cut by the heartbeat', async t => {
  const served = await serve(t, { heartbeat: HEARTBEAT, closeTimeout: NEVER })
  const client = await connectRaw(t, served.port)
  client.write(handshake('/'))
  await client.response()
  t.equal((await client.frame()).opcode, 9, 'a ping, which the client does not answer')
  t.equal(await served.code.wait('close'), 1006)
  await client.gone()
  await checkOthers(t, served)
})

t.test('the heartbeat cuts a peer with a large backlog, whose ping is not even sent', async t => {
  const served = await serve(
    t,
    { heartbeat: HEARTBEAT, closeTimeout: NEVER, maxBufferedAmount: 64 * MIB },
    socket => socket.send(Buffer.alloc(32 * MIB))
  )
  const client = await connectRaw(t, served.port)
  client.socket.pause()
  client.write(handshake('/'))
  t.equal(await served.code.wait('close'), 1006)
  await checkOthers(t, served)
})

t.test('the heartbeat cuts a peer that stops within a frame', async t => {
  const served = await serve(t, { heartbeat: HEARTBEAT, closeTimeout: NEVER })
  const client = await connectRaw(t, served.port)
  client.write(handshake('/'), frame(1, 'x'.repeat(500)).subarray(0, 100))
  t.equal(await served.code.wait('close'), 1006)
  await checkOthers(t, served)
})

const CLOSES: Readonly<
  Record<
    string,
    {
      readonly work: WebSocketHandler
      readonly code: number
      readonly says?: Buffer
      readonly buffers?: true
    }
  >
> = {
  'that does not answer a Close': { work: socket => socket.close(4000), code: 1006 },
  'that does not read the Close, behind what is buffered': {
    work: socket => {
      socket.send(Buffer.alloc(8 * MIB))
      socket.close(4000)
    },
    code: 1006,
    buffers: true
  },
  'that answers the Close and leaves TCP open': {
    work: socket => socket.close(4000),
    code: 4000,
    says: close(4000)
  },
  'that says Close, does not read the answer and leaves TCP open': {
    work: socket => void socket.send(Buffer.alloc(8 * MIB)),
    code: 4000,
    says: close(4000),
    buffers: true
  }
}
for (const [what, { work, code, says, buffers = false }] of Object.entries(CLOSES)) {
  t.test(`closeTimeout ends a peer ${what}`, async t => {
    const closeTimeout = ms(buffers ? 15 : 150)
    const served = await serve(t, { heartbeat: false, closeTimeout }, work)
    const client = await connectRaw(t, served.port)
    client.socket.pause()
    client.write(handshake('/'), ...(says === undefined ? [] : [says]))
    const took = await duration(served.code.wait('close'))
    // A peer that may still be reading gets a hundred times the timeout.
    const most = (buffers ? 101 : 1) * closeTimeout + ms(2_000)
    t.ok(took > closeTimeout / 2 && took < most, `${took} ms`)
    t.equal(await served.code.promise, code)
    await checkOthers(t, served)
  })
}

/** Reads one byte in each turn of the event loop. */
async function slowReader(t: Test, port: number, path: string) {
  const received: number[] = []
  const socket = connect({
    port,
    host: '127.0.0.1',
    onread: {
      buffer: Buffer.alloc(1),
      callback: (_size, buffer) => {
        received.push(buffer[0])
        setImmediate(() => socket.resume())
        return false
      }
    }
  })
  socket.on('error', () => {})
  t.teardown(() => socket.destroy())
  await once(socket, 'connect')
  socket.write(handshake(path))
  return { socket, received }
}

t.test('a peer that reads byte by byte receives everything in order while others are served', async t => {
  const served = await serve(t, { heartbeat: { interval: ms(2_000), timeout: ms(1_000) } }, socket => {
    for (let i = 0; i < 100; i++) socket.send(`${i}`)
    socket.close(4000)
  })
  const { socket, received } = await slowReader(t, served.port, '/')
  const all = (): Buffer =>
    Buffer.from(received).subarray(received.join().indexOf('13,10,13,10') < 0 ? received.length : headEnd())
  const headEnd = (): number => Buffer.from(received).indexOf('\r\n\r\n') + 4
  while (all().length < 100 * 3 + 90 + 4) {
    served.bystander.socket.send('beside')
    t.equal(await served.bystander.next(), 'beside')
  }
  const frames = decode(all())
  t.strictSame(
    frames.slice(0, -1).map(({ payload }) => String(payload)),
    Array.from({ length: 100 }, (_, i) => `${i}`)
  )
  t.equal(frames.at(-1)?.opcode, 8)
  socket.write(close(4000))
  t.equal(await served.code.wait('close'), 4000)
  await checkOthers(t, served)
})

t.test(
  'a peer that reads byte by byte and sends data stays connected, and drained() bounds its backlog',
  async t => {
    const highWaterMark = 2 ** 16
    let most = 0
    let sent = 0
    const stalled = new Signal()
    const served = await serve(t, { heartbeat: HEARTBEAT, highWaterMark }, async socket => {
      socket.on('ping', () => {
        most = Math.max(most, socket.bufferedAmount)
        if (sent > 0 && socket.bufferedAmount > highWaterMark) stalled.fire()
      })
      for (;;) {
        sent++
        if (!socket.send(Buffer.alloc(100_000))) await socket.drained()
      }
    })
    const { socket } = await slowReader(t, served.port, '/')
    const timer = setInterval(() => socket.write(frame(9, '')), HEARTBEAT.timeout / 4)
    t.teardown(() => clearInterval(timer))
    await stalled.wait('backpressure')
    // Five times as long as a silent peer gets.
    await new Promise(resolve => setTimeout(resolve, 5 * HEARTBEAT.interval))
    t.equal(served.app.websocketServer.clients.size, 2, 'it does not count as silent')
    t.ok(most < highWaterMark + 200_000, `${most} bytes were buffered`)
    socket.resetAndDestroy()
    t.equal(await served.code.wait('close'), 1006)
    await checkOthers(t, served)
  }
)

t.test('a peer that reads byte by byte does not delay app.close()', async t => {
  const sent = new Signal()
  const served = await serve(t, { closeTimeout: NEVER, heartbeat: false }, socket => {
    socket.send(Buffer.alloc(8 * MIB))
    sent.fire()
  })
  await slowReader(t, served.port, '/')
  await sent.wait('handler')
  const took = await duration(served.app.close())
  t.ok(took < ms(1_700), `${took} ms`)
  t.equal(await served.code.wait('close'), 1006)
  t.strictSame(served.uncaught, [])
})
