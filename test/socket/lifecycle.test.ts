import t from 'tap'
import { deadlinesAfter } from '../../lib/limits/deadline.js'
import { CloseDeadline, Lifetime } from '../../lib/socket/lifecycle.js'
import { ms, withDeadline } from '../helpers/timeout.js'
import { close, connect, nextEvent, ping, text, tick } from './harness.js'

t.test(
  'a connection that ends while the queue of the kernel is read sets no deadline and is not cut',
  async t => {
    const timeout = ms(20) + 0.375
    let cuts = 0
    const asked = new Promise<void>(resolve => {
      const sender = {
        written: 1e6,
        unsent: 0,
        taken: 1e6,
        readByPeer: 0,
        acknowledged: () => {
          deadline.stop()
          resolve()
          return Promise.resolve(undefined)
        },
        cut: () => void cuts++
      }
      const deadline = new CloseDeadline({ isEnded: false }, { output: { gaps: 0 } }, sender, timeout)
    })
    await withDeadline(asked, 5000, 'look')
    await new Promise(resolve => setImmediate(resolve))
    t.equal(deadlinesAfter(timeout).size, 0)
    t.equal(cuts, 0)
  }
)

t.test('a peer gets one more timeout after the closing handshake', async t => {
  const timeout = ms(20) + 0.4375
  let looks = 0
  await withDeadline(
    new Promise<void>(resolve => {
      const acknowledged = (): undefined => void looks++
      const sender = {
        written: 1e6,
        unsent: 0,
        taken: 1e6,
        readByPeer: 0,
        acknowledged,
        cut: () => resolve()
      }
      new CloseDeadline({ isEnded: true }, { output: { gaps: 0 } }, sender, timeout)
    }),
    5000,
    'cut'
  )
  t.equal(looks, 2)
  t.equal(deadlinesAfter(timeout).size, 0)
})

t.test('idleTimeout closes with 1001 when no message is sent or received; pings do not count', async t => {
  const { socket, peer } = await connect(t, { idleTimeout: ms(80) })
  socket.readAlways()
  const since = performance.now()
  const pings = setInterval(() => peer.send(ping()), ms(10))
  t.teardown(() => clearInterval(pings))
  await peer.until(() => peer.frames.some(frame => frame.startsWith('close')), 'Close')
  clearInterval(pings)
  t.equal(peer.frames.at(-1), 'close 1001 idle')
  t.ok(performance.now() - since >= ms(80) - 3)
  peer.send(close(1001))
  t.equal((await nextEvent(socket, 'close'))[2], undefined)
})

t.test('messages of either side keep a connection from being idle', async t => {
  for (const side of ['peer', 'socket'] as const) {
    const { socket, peer } = await connect(t, { idleTimeout: ms(100) })
    socket.readAlways()
    const since = performance.now()
    let last = since
    const talk = setInterval(() => {
      last = performance.now()
      if (side === 'peer') peer.send(text('x'))
      else socket.send('x')
      if (last - since > ms(300)) clearInterval(talk)
    }, ms(15))
    t.teardown(() => clearInterval(talk))
    await peer.until(() => peer.frames.some(frame => frame.startsWith('close')), 'Close')
    t.ok(performance.now() - since >= ms(350), side)
  }
})

t.test('maxLifetime closes with 1001, whatever happens on the connection', async t => {
  const { socket, peer } = await connect(t, { maxLifetime: ms(100) })
  socket.readAlways()
  const since = performance.now()
  const talk = setInterval(() => peer.send(text('x')), ms(10))
  t.teardown(() => clearInterval(talk))
  t.equal(await peer.next(), 'close 1001 lifetime over')
  clearInterval(talk)
  t.ok(performance.now() - since >= ms(90) - 3)
})

t.test('lifetimes are spread over a tenth', async t => {
  const order: number[] = []
  const lives = [0, 0.5, 0.999].map((random, i) => {
    return new Lifetime({ expire: () => void order.push(i) }, ms(400), random)
  })
  await new Promise(resolve => setTimeout(resolve, ms(450)))
  t.strictSame(order, [2, 1, 0], 'a greater random number ends sooner')
  for (const life of lives) life.stop()
})

t.test(
  'credentials that have expired close the connection with 1008, where no other code is set',
  async t => {
    const { socket, peer } = await connect(t, { over: 'memory' })
    socket.on('message', () => {})
    socket.renew(Date.now() - 1)
    t.equal(await peer.next(), 'close 1008 expired')
  }
)

t.test('a slow peer gets time to read although its data arrives while this side closes', async t => {
  const { socket, peer } = await connect(t, { over: 'memory', closeTimeout: ms(60), heartbeat: false })
  socket.on('message', () => {})
  peer.stream.pause()
  socket.send(Buffer.alloc(2 ** 20))
  await tick()
  socket.close(1000)
  peer.send(text('still reading'))
  // The first timeout ends with a check of the progress, not with a cut.
  const closed = nextEvent<[number, Buffer, Error | undefined]>(socket, 'close')
  await new Promise(resolve => setTimeout(resolve, ms(200)))
  t.equal(socket.readyState, socket.CLOSING)
  peer.stream.resume()
  peer.send(close(1000))
  const [code, , error] = await closed
  t.strictSame([code, error], [1000, undefined])
})

t.test(
  'the connection ends with the violation as its reason, also when the stream is destroyed in the same chunk',
  async t => {
    const { socket, stream, peer } = await connect(t, { over: 'memory' })
    socket.on('message', () => stream.destroy())
    socket.on('error', () => {})
    const closed = nextEvent<[number, Buffer, Error | undefined]>(socket, 'close')
    peer.send(text('a'), Buffer.from([0x83, 0x80, 0, 0, 0, 0]))
    t.match((await closed)[2], { code: 'FST_UPGRADE_INVALID_OPCODE' })
  }
)
