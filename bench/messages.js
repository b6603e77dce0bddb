// npm run bench:messages: an echo of validated JSON, with schemas and by hand.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { build } from './harness/build.js'
import { Child } from './harness/child.js'
import { findCores } from './harness/cores.js'
import { main } from './harness/main.js'
import { makeTextBatch } from './load/batch.js'
import { EchoLoad } from './load/echo.js'
import { makeRequest } from './load/opening.js'
import { machine } from './report/results.js'
import { median } from './report/summary.js'

const USAGE = `npm run bench:messages [-- --rounds N --seconds S]

--rounds   how often each is measured (5)
--seconds  how long (2)

Elysia is measured too after \`npm ci --prefix bench/elysia\`, which installs Bun there.`

const CONNECTIONS = 64
const START_MS = 20_000
const ANSWER_MS = 60_000
const MESSAGE = JSON.stringify({
  type: 'say',
  id: 12345,
  text: 'the quick brown fox jumps over the lazy dog '.repeat(3).trim(),
  tags: ['one', 'two'],
  at: 1796034246.5
})

const NODE_SERVER = path('servers/messages.js')
const BUN = path('elysia/node_modules/.bin/bun')

/**
 * @type {Readonly<Record<string, { name: string, command: string[] }>>}
 */
const KINDS = {
  hand: {
    name: '`JSON.parse`, Ajv and `JSON.stringify` on a route without schemas',
    command: [process.execPath, NODE_SERVER, 'hand']
  },
  schemas: { name: 'a route with `receive` and `send`', command: [process.execPath, NODE_SERVER, 'schemas'] },
  ws: { name: 'the same by hand on `ws`', command: [process.execPath, NODE_SERVER, 'ws'] },
  ...(existsSync(BUN) && {
    elysia: { name: '`body` and `response` of Elysia, on Bun', command: [BUN, path('elysia/server.js')] }
  })
}

/** @param {string} file */
function path(file) {
  return fileURLToPath(new URL(file, import.meta.url))
}

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    seconds: { type: 'string', default: '2' },
    help: { type: 'boolean', default: false }
  }
})

/**
 * @param {string} kind
 * @param {number} pipeline
 * @returns {Promise<number>} messages per CPU second of the server.
 */
async function measure(kind, pipeline) {
  const server = new Child(kind, KINDS[kind].command, {
    core: findCores()?.server,
    env: { NODE_ENV: 'production' }
  })
  const load = new EchoLoad(makeTextBatch(MESSAGE, pipeline), pipeline)
  try {
    const port = await server.port(START_MS)
    const request = makeRequest({ port, path: '/', deflate: false })
    await load.open(CONNECTIONS, { port, request, deflate: false, rawSize: 0 })
    await load.run(Number(values.seconds) / 4)
    const before = await server.ask({}, ANSWER_MS)
    const messages = await load.run(Number(values.seconds))
    const after = await server.ask({}, ANSWER_MS)
    return messages / (after.cpu - before.cpu)
  } finally {
    load.drop()
    await server.stop()
  }
}

await main(async () => {
  if (values.help) return console.log(USAGE)
  await build()
  const { cpu, cores } = machine()
  console.log(`\n${process.version}, ${cores} cores of ${cpu}; ${MESSAGE.length} bytes of JSON`)
  for (const pipeline of [1, 16]) {
    /** @type {Map<string, number[]>} */
    const rates = new Map(Object.keys(KINDS).map(kind => [kind, []]))
    for (let round = 0; round < Number(values.rounds); round++)
      for (const [kind, found] of rates) found.push(await measure(kind, pipeline))
    const base = median(rates.get('hand') ?? [])
    console.log(`\n| ${pipeline} in flight | messages per CPU second | ratio |\n| --- | --- | --- |`)
    for (const [kind, found] of rates) {
      const rate = median(found)
      console.log(
        `| ${KINDS[kind].name} | ${Math.round(rate).toLocaleString('en')} | ${(rate / base).toFixed(2)} |`
      )
    }
  }
})
