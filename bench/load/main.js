// The process that loads a server. It follows the requests of its parent over IPC: opens the connections of a workload, and
// loads them for some seconds.
import { makeBatch } from './batch.js'
import { EchoLoad } from './echo.js'
import { FanLoad } from './fan.js'
import { HandshakeLoad } from './handshake.js'
import { makeRequest } from './opening.js'
import { connectTls, openSession } from './secure.js'

/**
 * @typedef {import('../workloads.js').Workload} Workload
 * @typedef {EchoLoad | FanLoad | HandshakeLoad} Load
 */

/** The maximum time to wait for the last answer; a run of `cold` consists of it. */
const ANSWER_SECONDS = 45

/** @type {{ load: Load, workload: Workload } | undefined} */
let current

/**
 * How the peer is reached: TCP without a transport.
 * @typedef {{ open: Workload, port: number, raw: boolean, transport?: 'tls' | 'http2' }} Open
 */

/** @param {Open} question */
async function open({ open: workload, port, raw, transport }) {
  const batch = makeBatch(workload)
  const path = workload.kind === 'fan' ? '/fan' : '/'
  const load = makeLoad(workload, batch)
  await load.open(workload.connections, {
    port,
    deflate: workload.deflate,
    request:
      raw || transport === 'http2' ? undefined : makeRequest({ port, path, deflate: workload.deflate }),
    rawSize: raw ? batch.length / workload.pipeline : 0,
    ...(transport === 'tls' && { connect: connectTls }),
    ...(transport === 'http2' && { connect: await openSession(port, path) })
  })
  current = { load, workload: raw ? { ...workload, size: batch.length / workload.pipeline } : workload }
  return {}
}

/**
 * @param {Workload} workload
 * @param {Buffer} batch
 * @returns {Load}
 */
function makeLoad({ kind, total, pipeline }, batch) {
  if (kind === 'fan') return new FanLoad(batch)
  if (kind === 'handshake' || kind === 'cold') return new HandshakeLoad(total)
  return new EchoLoad(batch, pipeline)
}

/** @param {number} seconds */
async function run(seconds) {
  if (current === undefined) throw new Error('no connection is open')
  const { load, workload } = current
  const bytes = load.bytes
  const started = performance.now()
  const cpu = process.cpuUsage()
  const late = setTimeout(
    () => {
      throw new Error(`after ${ANSWER_SECONDS} s there were still messages without an answer`)
    },
    (seconds + ANSWER_SECONDS) * 1000
  )
  const messages = await load.run(seconds)
  clearTimeout(late)
  const { user, system } = process.cpuUsage(cpu)
  checkBytes(workload, messages, load.bytes - bytes)
  return { messages, seconds: (performance.now() - started) / 1000, cpu: (user + system) / 1e6 }
}

/**
 * A server that sends something else than it was sent is not worth measuring. Compressed messages vary in length.
 * @param {Workload} workload
 * @param {number} messages
 * @param {number} bytes
 */
function checkBytes({ kind, deflate, size }, messages, bytes) {
  if (kind === 'handshake' || kind === 'cold' || deflate || bytes === messages * size) return
  throw new Error(`${messages} messages of ${size} bytes came back as ${bytes} bytes`)
}

process.on('message', async (/** @type {Open | { run: number }} */ question) => {
  process.send?.(await ('run' in question ? run(question.run) : open(question)))
})

process.on('disconnect', () => process.exit())

process.on('uncaughtException', error => {
  process.send?.({ error: error.message }, () => process.exit(1))
})
