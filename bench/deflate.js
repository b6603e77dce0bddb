// npm run bench:deflate: the savings and the cost of compression for JSON messages, with and without context takeover.
import { Deflater } from '../dist/lib/compression/deflater.js'
import { Inflater } from '../dist/lib/compression/inflater.js'
import { build } from './harness/build.js'
import { main } from './harness/main.js'

const SIZES = [256, 1024, 4096, 16384]
const LEVELS = [1, 3, 6, 9]
const MESSAGES = 400

/** Messages like those of a chat or a dashboard: the same names each time, with other values. */
function jsonMessages(size) {
  let seed = 1
  const random = () => {
    seed = (seed * 48271) % 2147483647
    return seed / 2147483647
  }
  const item = () => ({
    id: Math.floor(random() * 1e9),
    user: `user${Math.floor(random() * 5000)}`,
    text: Array.from({ length: 8 }, () => Math.floor(random() * 36 ** 4).toString(36)).join(' '),
    price: Math.round(random() * 1e5) / 100,
    at: new Date(1.7e12 + Math.floor(random() * 1e11)).toISOString(),
    read: random() < 0.5
  })
  return Array.from({ length: MESSAGES }, () => {
    const items = []
    while (JSON.stringify(items).length < size) items.push(item())
    return Buffer.from(JSON.stringify(items))
  })
}

const zlibOptions = level => ({ windowBits: 15, level, memLevel: 8, strategy: 0 })

/** The compressed size in percent, and microseconds per message. */
function measure(messages, level, takesOver) {
  const deflater = new Deflater(zlibOptions(level), takesOver)
  for (const message of messages.slice(0, 50)) deflater.deflate(message, true)
  const start = performance.now()
  let sent = 0
  for (const message of messages) sent += deflater.deflate(message, true).length
  const micros = ((performance.now() - start) * 1000) / messages.length
  const bytes = messages.reduce((sum, { length }) => sum + length, 0)
  return `${((100 * sent) / bytes).toFixed(0)} %  ${micros.toFixed(0)} us`.padStart(14)
}

/** The memory of many deflaters or inflaters that have processed a message. */
function memory(make) {
  const COUNT = 400
  const before = process.memoryUsage().rss
  const held = Array.from({ length: COUNT }, make)
  return `${((process.memoryUsage().rss - before) / COUNT / 1024).toFixed(0)} KiB (${held.length} of them)`
}

await main(async () => {
  await build()
  console.log('bytes left and time a message; level 1, 3, 6, 9\n')
  for (const takesOver of [false, true]) {
    console.log(takesOver ? 'with context takeover' : 'without context takeover')
    for (const size of SIZES) {
      const messages = jsonMessages(size)
      console.log(`${size}`.padStart(7), ...LEVELS.map(level => measure(messages, level, takesOver)))
    }
  }
  const [message] = jsonMessages(4096)
  const deflated = new Deflater(zlibOptions(3), false).deflate(message, true)
  console.log('\nmemory that a connection takes with context takeover')
  console.log(
    '  server ',
    memory(() => {
      const deflater = new Deflater(zlibOptions(3), true)
      deflater.deflate(message, true)
      return deflater
    })
  )
  console.log(
    '  client ',
    memory(() => {
      const inflater = new Inflater(15, true)
      inflater.inflate(deflated.subarray(0, 1000), 2 ** 20)
      return inflater
    })
  )
})
