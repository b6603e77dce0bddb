import t from 'tap'
import { deadlinesAfter } from '../../lib/limits/deadline.js'
import type { HeartbeatSettings } from '../../lib/options/table.js'
import { Heartbeat } from '../../lib/socket/heartbeat.js'
import { ms, withDeadline } from '../helpers/timeout.js'
import { closing, connect, MIB, nextEvent, pong, roundTrip, text } from './harness.js'
import { make } from './manual.js'

/** Delays longer than a test, each used once, so that each has its own lists of deadlines. */
let unique = 0
const own = (n: number): number => ms(n) + unique++ / 1000

const notShown = (): Promise<undefined> | undefined => undefined

/** A heart whose numbers the test sets. */
class FakeHeart {
  writer = { bytes: 0, unsent: 0, taken: 0, isAwaited: false, acknowledged: notShown }
  output = { gaps: 0, size: 0 }
  isReading = true
  readByPeer = 0
  isOpen = true
  pings: number[] = []
  pongs = 0
  silences = 0
  /** Called after a ping. */
  onPing: (count: number) => void = () => {}
  onEnd: () => void = () => {}
  heartbeat: Heartbeat | undefined

  start(settings: HeartbeatSettings): Heartbeat {
    const { writer } = this
    const isPaused = (): boolean => !this.isReading
    const connection = {
      input: {
        get paused() {
          return isPaused()
        }
      },
      output: this.output,
      ping: () => this.onPing(this.pings.push(performance.now())),
      pong: () => void this.pongs++
    }
    const readByPeer = (): number => this.readByPeer
    const isOpen = (): boolean => this.isOpen
    const sender = {
      get isOpen() {
        return isOpen()
      },
      get isAwaited() {
        return writer.isAwaited
      },
      get written() {
        return writer.bytes
      },
      get taken() {
        return writer.taken
      },
      get unsent() {
        return writer.unsent
      },
      get readByPeer() {
        return readByPeer()
      },
      onRead: (bytes: number) => {
        this.readByPeer = bytes
      },
      acknowledged: () => writer.acknowledged(),
      flushSoon: () => {},
      cut: () => {
        this.silences++
        this.onEnd()
      }
    }
    this.heartbeat = new Heartbeat(connection, sender, { onLatency: () => {} }, settings)
    return this.heartbeat
  }

  /** A byte arrives. */
  answer(): void {
    this.heartbeat?.onBytes()
  }
}

const reached = (heart: FakeHeart, pings: number): Promise<void> =>
  withDeadline(
    new Promise(resolve => {
      const { onPing } = heart
      heart.onPing = count => {
        onPing(count)
        if (count === pings) resolve()
      }
    }),
    10_000,
    `${pings} pings`
  )

t.test('pings are sent once per interval while bytes arrive', async t => {
  const heart = new FakeHeart()
  const [interval, timeout] = [own(40), own(10)]
  heart.onPing = () => {
    heart.answer()
    // Set after this function has returned.
    process.nextTick(() => {
      t.equal(deadlinesAfter(timeout).size, 1, 'it waits for the answer')
    })
  }
  const since = performance.now()
  const heartbeat = heart.start({ interval, timeout })
  await reached(heart, 3)
  heartbeat.stop()
  t.equal(heart.silences, 0)
  for (const [i, at] of heart.pings.entries()) t.ok(at - since >= (i + 1) * (interval - 3), `ping ${i}`)
  for (const delay of [interval, timeout, interval - timeout]) t.equal(deadlinesAfter(delay).size, 0)
})

t.test('nothing is sent when the connection is not open', async t => {
  const heart = new FakeHeart()
  const timeout = own(10)
  heart.isOpen = false
  const silence = new Promise<void>(resolve => {
    heart.onEnd = resolve
  })
  heart.start({ interval: 2 * timeout, timeout })
  await withDeadline(silence, 5000, 'silence')
  t.strictSame(heart.pings, [])
})

t.test('a peer that is silent for the timeout ends the heartbeat once', async t => {
  const heart = new FakeHeart()
  heart.answer()
  const [interval, timeout] = [own(40), own(20)]
  let silentAt = 0
  const silence = new Promise<void>(resolve => {
    heart.onEnd = () => {
      silentAt = performance.now()
      resolve()
    }
  })
  const heartbeat = heart.start({ interval, timeout })
  await withDeadline(silence, 5000, 'silence')
  t.equal(heart.pings.length, 1)
  t.ok(silentAt - Number(heart.pings[0]) >= timeout - 3)
  for (const delay of [interval, timeout, interval - timeout]) t.equal(deadlinesAfter(delay).size, 0)
  heartbeat.stop()
  t.equal(heart.silences, 1)
})

t.test('silence is ignored while the application does not read, and counts again afterwards', async t => {
  const heart = new FakeHeart()
  heart.isReading = false
  heart.onPing = count => {
    if (count === 3) heart.isReading = true
  }
  const silence = new Promise<void>(resolve => {
    heart.onEnd = resolve
  })
  heart.start({ interval: own(30), timeout: own(15) })
  await withDeadline(silence, 5000, 'silence')
  t.equal(heart.pings.length, 3)
})

t.test('silence counts while the application does not read but a callback awaits the peer', async t => {
  const heart = new FakeHeart()
  heart.isReading = false
  heart.writer.isAwaited = true
  const silence = new Promise<void>(resolve => {
    heart.onEnd = resolve
  })
  heart.start({ interval: own(30), timeout: own(15) })
  await withDeadline(silence, 5000, 'silence')
  t.equal(heart.pings.length, 1)
})

t.test('a callback that is pending briefly, while the peer reads, does not make the peer silent', async t => {
  const heart = new FakeHeart()
  heart.isReading = false
  heart.writer.isAwaited = true
  heart.onPing = count => {
    heart.writer.taken += 2
    // The peer stops.
    if (count > 1) heart.writer.taken -= 2
  }
  const silence = new Promise<void>(resolve => {
    heart.onEnd = resolve
  })
  const timeout = own(15)
  heart.start({ interval: 2 * timeout, timeout })
  await withDeadline(silence, 5000, 'silence')
  t.equal(heart.pongs, 1, 'the peer gets another timeout')
})

/** The reaction of a peer to a ping: nothing, a pong, a pong with other data, or other bytes. */
type Answer = 'none' | 'pong' | 'pong with data' | 'bytes' | 'two pongs' | 'pong to another ping'

/**
 * The number of timeouts that a peer gets for its last ping, which it does not answer. Before each ping it is sent as
 * many bytes as the lowest rate allows in one timeout.
 */
const TIME: readonly (readonly [answers: readonly Answer[], timeouts: number])[] = [
  [['none'], 1],
  [['pong', 'none'], 1],
  [['bytes', 'none'], 2],
  [['pong with data', 'bytes', 'none'], 3],
  [['bytes', 'pong', 'none'], 3],
  [['bytes', 'two pongs', 'none'], 1],
  [['pong to another ping', 'none'], 2],
  [['bytes', 'two pongs', 'two pongs', 'none'], 1]
]
for (const [answers, timeouts] of TIME) {
  t.test(
    `a peer has time for the bytes sent since the last ping that it answered: ${answers.join(', ')}`,
    async t => {
      const heart = new FakeHeart()
      const timeout = own(20)
      const bytes = Math.ceil((4096 * timeout) / 1000)
      const silence = new Promise<void>(resolve => {
        heart.onEnd = resolve
      })
      heart.writer.bytes = bytes
      heart.onPing = count => {
        const answer = answers[count - 1]
        if (answer === 'none') return
        heart.answer()
        if (answer === 'pong' || answer === 'two pongs') heartbeat.onPong(Buffer.alloc(0))
        if (answer === 'two pongs') heartbeat.onPong(Buffer.alloc(0))
        if (answer === 'pong to another ping') {
          heartbeat.onBarePing()
          heartbeat.onPong(Buffer.alloc(0))
        }
        if (answer === 'pong with data') heartbeat.onPong(Buffer.from('data'))
        heart.writer.bytes += bytes
      }
      const heartbeat = heart.start({ interval: 2 * timeout, timeout })
      await withDeadline(silence, 5000, 'silence')
      t.equal(heart.pings.length, answers.length, 'no ping while an answer is pending')
      t.equal(heart.pongs, timeouts, 'a pong each time, so that proxies see activity')
    }
  )
}

t.test('a peer has time for frames that are still unwritten when the ping is sent', async t => {
  const heart = new FakeHeart()
  const timeout = own(20)
  const silence = new Promise<void>(resolve => {
    heart.onEnd = resolve
  })
  heart.output.size = Math.ceil((2 * 4096 * timeout) / 1000)
  heart.start({ interval: 2 * timeout, timeout })
  await withDeadline(silence, 5000, 'silence')
  t.equal(heart.pongs, 2)
})

t.test('an answer that arrives during the extra time is a sign of life', async t => {
  const heart = new FakeHeart()
  const timeout = own(20)
  heart.writer.bytes = 1e6
  let looks = 0
  heart.writer.acknowledged = () => {
    looks++
    // It arrives while the queue of the kernel is read.
    heart.answer()
    return Promise.resolve(undefined)
  }
  const heartbeat = heart.start({ interval: 2 * timeout, timeout })
  await reached(heart, 3)
  heartbeat.stop()
  t.equal(heart.silences, 0)
  t.equal(looks, 2)
})

t.test('a heartbeat that is stopped while the queue of the kernel is read sets no deadline', async t => {
  const heart = new FakeHeart()
  const [interval, timeout] = [own(40), own(20)]
  heart.writer.bytes = 1e6
  const asked = new Promise<void>(resolve => {
    heart.writer.acknowledged = () => {
      resolve()
      return Promise.resolve(undefined)
    }
  })
  const heartbeat = heart.start({ interval, timeout })
  await withDeadline(
    asked.then(() => heartbeat.stop()),
    5000,
    'look'
  )
  await new Promise(resolve => setImmediate(resolve))
  for (const delay of [interval, timeout, interval - timeout]) t.equal(deadlinesAfter(delay).size, 0)
  t.equal(heart.silences + heart.pongs, 0)
})

t.test('an interval of exactly two timeouts neither speeds up nor slows down the pings', async t => {
  const heart = new FakeHeart()
  heart.onPing = () => {
    heart.answer()
  }
  const timeout = own(10)
  const since = performance.now()
  const heartbeat = heart.start({ interval: 2 * timeout, timeout })
  await reached(heart, 6)
  heartbeat.stop()
  t.ok(performance.now() - since >= 12 * timeout - 12)
  t.equal(deadlinesAfter(timeout).size, 0)
})

t.test(
  'a connection sends pings, counts any byte as a sign of life, and leaves no timer after the close',
  async t => {
    const heartbeat = { interval: own(40), timeout: own(20) }
    const { socket, peer } = await connect(t, { heartbeat })
    const pongs: string[] = []
    socket.on('pong', data => pongs.push(String(data)))
    socket.readAlways()
    t.equal(await peer.next(), 'ping')
    peer.send(pong())
    t.equal(await peer.next(), 'ping')
    // A byte of an incomplete frame.
    peer.send(text('unfinished').subarray(0, 1))
    t.equal(await peer.next(), 'ping')
    t.strictSame(pongs, [''])
    peer.stream.end()
    t.equal(await closing(socket), '1006')
    for (const delay of [heartbeat.interval, heartbeat.timeout, heartbeat.interval - heartbeat.timeout]) {
      t.equal(deadlinesAfter(delay).size, 0)
    }
  }
)

t.test('a connection with a silent peer is cut', async t => {
  const { socket, peer, errors } = await connect(t, { heartbeat: { interval: own(40), timeout: own(20) } })
  socket.on('error', error => t.fail(error.message))
  socket.readAlways()
  t.equal(await closing(socket), '1006')
  t.strictSame(peer.frames, ['ping'])
  t.strictSame(errors, [])
  await peer.end()
})

t.test('a connection whose peer answers is not cut when the process is blocked', async t => {
  const heartbeat = { interval: own(60), timeout: own(30) }
  const { socket, peer } = await connect(t, { heartbeat })
  socket.readAlways()
  socket.on('close', () => t.fail('cut'))
  peer.once('news', () => {
    // The answer has reached the operating system, and the deadline passes before this process can read it.
    peer.send(pong())
    const until = performance.now() + 2 * heartbeat.timeout
    while (performance.now() < until);
  })
  t.equal(await peer.next(), 'ping')
  t.equal(await peer.next(), 'ping')
  socket.removeAllListeners('close')
})

t.test('a connection is not cut while it is paused or has no consumer', async t => {
  const heartbeat = { interval: own(20), timeout: own(10) }
  const paused = await connect(t, { heartbeat })
  paused.socket.on('message', () => {})
  paused.socket.pause()
  const unread = await connect(t, { heartbeat })
  for (const { socket, peer } of [paused, unread]) {
    for (let i = 0; i < 4; i++) t.equal(await peer.next(), 'ping')
    // A listener of close would make the connection read.
    t.equal(socket.readyState, socket.OPEN, 'not cut')
  }
  paused.socket.resume()
  t.equal(await closing(paused.socket), '1006')
})

t.test('a connection sends no pings in the closing handshake, which has its own deadline', async t => {
  const heartbeat = { interval: own(30), timeout: own(15) }
  const { socket, peer } = await connect(t, { heartbeat })
  t.equal(await peer.next(), 'ping')
  peer.send(pong())
  socket.close(1001)
  await roundTrip(t)
  for (const delay of [heartbeat.interval, heartbeat.timeout, heartbeat.interval - heartbeat.timeout]) {
    t.equal(deadlinesAfter(delay).size, 0)
  }
  t.strictSame(peer.frames, ['close 1001'])
  t.equal(socket.readyState, socket.CLOSING)
})

t.test('a connection whose peer reads nothing while a loop awaits drained() is silent', async t => {
  const { socket, peer } = await connect(t, { heartbeat: { interval: ms(60), timeout: ms(30) } })
  const closed = nextEvent(socket, 'close')
  const work = async (): Promise<void> => {
    for await (const _ of socket) while (true) if (!socket.send(Buffer.alloc(MIB))) await socket.drained()
  }
  const worked = work()
  peer.stream.pause()
  peer.send(text('go'))
  await t.rejects(withDeadline(worked, 10_000, 'the loop'), { code: 'FST_UPGRADE_NOT_OPEN' })
  t.match((await closed)[2], { code: 'FST_UPGRADE_SILENT_PEER' })
})

t.test('a connection that has read ignores silence again when the application stops reading', async t => {
  const heartbeat = { interval: ms(120), timeout: ms(60) }
  const { socket, peer } = await connect(t, { heartbeat })
  peer.stream.pause()
  socket.pause()
  while (socket.send(Buffer.alloc(MIB)));
  const drained = socket.drained()
  peer.stream.resume()
  await drained
  await new Promise(resolve => setTimeout(resolve, 4 * heartbeat.interval))
  t.equal(socket.readyState, socket.OPEN)
})

t.test('a connection whose peer still reads the bytes before the ping is not silent', async t => {
  const timeout = ms(50)
  const { socket, stream, peer } = await connect(t, {
    heartbeat: { interval: timeout + 1, timeout },
    maxBufferedAmount: 128 * MIB
  })
  socket.readAlways()
  let reason: unknown
  socket.on('close', (_code, _reason, error) => {
    reason = error
  })
  peer.stream.pause()
  socket.send(Buffer.alloc(100 * MIB))
  // It reads a little from time to time, and sends nothing.
  const since = performance.now()
  while (performance.now() - since < 40 * timeout) {
    // The window of TCP opens in steps of about a megabyte.
    peer.stream.read()
    await new Promise(resolve => setTimeout(resolve, timeout / 25))
  }
  t.ok(stream.writableLength > 0, 'there is still a backlog')
  t.equal(reason, undefined)
  const closed = nextEvent(socket, 'close')
  t.match((await closed)[2], { code: 'FST_UPGRADE_SILENT_PEER' }, 'until the peer stops')
})

t.test(
  'frames behind a message that is still being compressed cause neither silence nor a closing timeout',
  async t => {
    const heartbeat = { interval: own(40), timeout: own(20) }
    for (const closes of [true, false]) {
      const { stream, connection, sender, lifecycle, read, log } = make(t, own(30), { heartbeat })
      read(true)
      const gap = connection.output.sendLater(true, true, 10)
      if (closes) lifecycle.close(1000)
      await new Promise(resolve => setTimeout(resolve, ms(150)))
      t.equal(stream.destroyed, false)
      const cut = new Promise<Error | undefined>(resolve => {
        log.onEnd = resolve
      })
      connection.output.fillGap(gap, Buffer.alloc(10))
      sender.flushSoon()
      const reason = await withDeadline(cut, 5000, 'the cut of a silent peer')
      t.equal(reason?.name, 'FastifyError')
    }
  }
)

t.test(
  'on a connection the application may send pings without data in addition to the heartbeat',
  async t => {
    for (const heartbeat of [{ interval: ms(20_000), timeout: ms(10_000) }, false] as const) {
      const { socket, peer } = await connect(t, { heartbeat })
      socket.on('message', () => {})
      const answered = nextEvent(socket, 'pong')
      socket.ping()
      await peer.until(() => peer.raw.some(({ opcode }) => opcode === 9), 'ping')
      peer.send(pong())
      await answered
      t.equal(socket.readyState, socket.OPEN)
    }
  }
)
