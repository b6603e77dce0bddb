import { randomBytes } from 'node:crypto'
import { constants, deflateRawSync, inflateRawSync } from 'node:zlib'
import t, { type Test } from 'tap'
import { DEBUG, ERROR, listen, makeApp, ms, text, watchProcess, withDeadline } from '../helpers/app.js'
import { hex } from '../protocol/wire.js'
import {
  BROWSER,
  compressedFrame,
  compressedFrames,
  deflated,
  MIB,
  nextClose,
  nextFrame,
  openRaw,
  Pulse,
  TAKEOVER
} from './deflate-client.js'

// Compressed messages that are invalid, or that inflate to more than the limit.

/**
 * The maximum duration of an echo on another connection, in milliseconds. Inflating the whole gigabyte takes more than
 * a second.
 */
const LATENCY = ms(400)

/** The maximum growth of the process in bytes. */
const GROWTH = 100 * MIB

const WAYS = { 'with takeover': TAKEOVER, 'without takeover': true } as const

const END = 'é'.repeat(5)

const INVALID: Readonly<Record<string, readonly [payload: Buffer, opcode: number, closing: string]>> = {
  'an invalid block': [hex('ff ff ff ff ff'), 2, '1007 compressed data invalid'],
  'an invalid stored block': [hex('00 05 00 00 00 48 65 6c 6c 6f'), 1, '1007 compressed data invalid'],
  'a reference to data that never was': [hex('02 13 00 00'), 1, '1007 compressed data invalid'],
  'a large invalid message': [
    Buffer.concat([deflated(randomBytes(20_000)), Buffer.alloc(20_000, 0xff)]),
    2,
    '1007 compressed data invalid'
  ],
  'text that is not UTF-8': [deflated(hex('48 c3 28')), 1, '1007 text not UTF-8'],
  'text that ends inside a character': [deflated(Buffer.from(END).subarray(0, -1)), 1, '1007 text not UTF-8'],
  'a large text that is not UTF-8': [
    deflated(Buffer.concat([Buffer.from(randomBytes(60_000).toString('hex')), hex('ff')])),
    1,
    '1007 text not UTF-8'
  ]
}

for (const [way, perMessageDeflate] of Object.entries(WAYS)) {
  for (const [name, [payload, opcode, closing]] of Object.entries(INVALID)) {
    t.test(`${name}, ${way}`, async t => {
      const { app, log } = await makeApp(t, { perMessageDeflate })
      const messages: string[] = []
      app.get('/', { websocket: true }, socket => {
        socket.on('message', data => messages.push(String(data)))
      })
      const port = await listen(app)
      for (const frames of [[compressedFrame(payload, opcode)], compressedFrames(payload, 1000, opcode)]) {
        const { client } = await openRaw(t, port, '/')
        client.write(text('before'), ...frames, text('after'))
        t.equal(await nextClose(client), closing)
        await client.end()
        client.socket.end()
      }
      t.strictSame(messages, ['before', 'before'])
      await app.close()
      const failed = log.with('the WebSocket failed')
      t.equal(failed.length, 2)
      t.match(failed[0], { level: DEBUG, err: { code: /^FST_UPGRADE_INVALID_/ } })
      t.strictSame(log.at(ERROR), [])
    })
  }
}

for (const [way, perMessageDeflate] of Object.entries(WAYS)) {
  t.test(`maxPayload limits the inflated size of a message, exact to the byte, ${way}`, async t => {
    const { app } = await makeApp(t, { perMessageDeflate })
    // Inflated synchronously, and noise that is inflated in the thread pool.
    for (const maxPayload of [1, 1000, 40_000]) {
      app.get(`/${maxPayload}`, { websocket: { maxPayload } }, socket => {
        socket.on('message', data => socket.send(`got ${data.length}`, { compress: false }))
      })
    }
    const port = await listen(app)
    for (const [maxPayload, content] of [
      [1, 'x'.repeat(2)],
      [1000, 'x'.repeat(1001)],
      [1000, randomBytes(501).toString('hex')],
      [40_000, randomBytes(20_001).toString('hex')]
    ] as const) {
      for (const size of [Infinity, 300]) {
        const { client } = await openRaw(t, port, `/${maxPayload}`)
        client.write(...compressedFrames(deflated(content.slice(0, maxPayload)), size))
        t.equal(String((await nextFrame(client)).payload), `got ${maxPayload}`)
        client.write(...compressedFrames(deflated(content), size))
        t.equal(await nextClose(client), '1009 message too big', `${content.length} bytes`)
        await client.end()
        client.socket.end()
      }
    }
  })
}

/** A MiB of zeros, flushed so that it can be repeated. */
const BLOCK = deflateRawSync(Buffer.alloc(MIB), { level: 9, finishFlush: constants.Z_FULL_FLUSH })

/** A GiB of zeros. */
const BOMB = Buffer.concat(Array.from({ length: 1024 }, () => BLOCK))

t.test('the bomb inflates to it', async t => {
  t.ok(BOMB.length < 1.1 * MIB, `${BOMB.length} bytes`)
  const part = BOMB.subarray(0, 16 * BLOCK.length)
  t.equal(inflateRawSync(part, { finishFlush: constants.Z_SYNC_FLUSH }).length, 16 * MIB)
})

interface Watched {
  readonly worst: number
  readonly count: number
  /** The maximum memory above that before, in bytes. */
  readonly growth: number
}

/** Runs a function while echoes are measured on another connection. */
async function watched(t: Test, port: number, work: () => Promise<void>): Promise<Watched> {
  const pulse = await Pulse.start(t, port, '/echo')
  const before = process.memoryUsage.rss()
  let most = before
  const timer = setInterval(() => {
    most = Math.max(most, process.memoryUsage.rss())
  }, 5)
  try {
    await work()
  } finally {
    clearInterval(timer)
  }
  most = Math.max(most, process.memoryUsage.rss())
  return { ...(await pulse.stop()), growth: most - before }
}

for (const [way, perMessageDeflate] of Object.entries(WAYS)) {
  for (const maxPayload of [MIB, 16 * MIB]) {
    t.test(`a compressed GiB is refused against a limit of ${maxPayload / MIB} MiB, ${way}`, async t => {
      const uncaught = watchProcess(t)
      const { app } = await makeApp(t, { perMessageDeflate, maxPayload })
      app.get('/echo', { websocket: true }, socket => {
        socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
      })
      app.get('/', { websocket: true }, socket => {
        socket.on('message', data => t.fail(`received ${data.length} bytes`))
      })
      const port = await listen(app)
      for (const frames of [[compressedFrame(BOMB, 2)], compressedFrames(BOMB, 65_536, 2)]) {
        const { worst, count, growth } = await watched(t, port, async () => {
          const { client } = await openRaw(t, port, '/')
          client.write(...frames)
          t.equal(await nextClose(client), '1009 message too big', `in ${frames.length} frames`)
          await client.end()
          client.socket.end()
        })
        t.ok(count > 0, `${count} echoes`)
        t.ok(worst < LATENCY, `the slowest echo took ${worst.toFixed()} ms`)
        t.ok(growth < GROWTH, `the process grew by ${(growth / MIB).toFixed()} MiB`)
      }
      t.strictSame(uncaught, [])
    })
  }

  t.test(
    `many small messages of the largest allowed size do not delay other connections, ${way}`,
    async t => {
      const { app } = await makeApp(t, { perMessageDeflate })
      let received = 0
      app.get('/echo', { websocket: true }, socket => {
        socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
      })
      app.get('/', { websocket: true }, socket => {
        socket.on('message', data => {
          received += data.length
          if (received === 256 * small.length) socket.send('all', { compress: false })
        })
      })
      const port = await listen(app)
      // A quarter of a MiB each, and 64 MiB in all, from less than a hundred KiB.
      const small = Buffer.alloc(MIB / 4)
      const wire = compressedFrame(deflated(small, 9), 2)
      const { worst, growth } = await watched(t, port, async () => {
        const { client } = await openRaw(t, port, '/')
        client.write(Buffer.concat(Array.from({ length: 256 }, () => wire)))
        t.equal(String((await nextFrame(client)).payload), 'all')
      })
      t.ok(worst < LATENCY, `the slowest echo took ${worst.toFixed()} ms`)
      t.ok(growth < GROWTH, `the process grew by ${(growth / MIB).toFixed()} MiB`)
    }
  )
}

t.test('many bombs on connections that are cut meanwhile do not delay other connections', async t => {
  const uncaught = watchProcess(t)
  const { app } = await makeApp(t, { perMessageDeflate: TAKEOVER, maxPayload: 4 * MIB })
  app.get('/echo', { websocket: true }, socket => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  const { worst } = await watched(t, port, async () => {
    const bomb = async (i: number): Promise<void> => {
      const offer = i % 2 === 0 ? BROWSER : 'permessage-deflate; client_no_context_takeover'
      const { client } = await openRaw(t, port, '/', offer)
      client.write(compressedFrame(BOMB, 2))
      if (i % 4 < 2) t.equal(await nextClose(client), '1009 message too big')
      client.socket.resetAndDestroy()
    }
    await withDeadline(Promise.all(Array.from({ length: 24 }, (_, i) => bomb(i))), 30_000, 'the bombs')
  })
  t.ok(worst < 2 * LATENCY, `the slowest echo took ${worst.toFixed()} ms`)
  t.strictSame(uncaught, [])
})
