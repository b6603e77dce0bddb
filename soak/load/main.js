// A process that holds many connections, each of which sends a message from time to time and receives it back.
import { makeBatch } from '../../bench/load/batch.js'
import { openConnections } from '../../bench/load/open.js'
import { makeRequest } from '../../bench/load/opening.js'
import { Latencies } from './latency.js'

/** @typedef {import('../../bench/load/connection.js').Connection} Connection */

const SIZE = 64

/** @type {Connection[]} */
let connections = []
/** The time at which the unanswered message was sent. @type {Map<Connection, number>} */
const waiting = new Map()
/** @type {Set<Connection>} */
let answered = new Set()
let latencies = new Latencies()
let onAnswer = () => {}
const batch = makeBatch({ size: SIZE, pipeline: 1, binary: false, deflate: false })

/** @param {{ count: number, port: number, localAddress: string | undefined }} options */
async function open({ count, port, localAddress }) {
  const request = makeRequest({ port, path: '/', deflate: false })
  const target = { port, localAddress, request, deflate: false, rawSize: 0 }
  connections = await openConnections(count, target, onMessages)
  return { open: connections.length }
}

/**
 * @param {Connection} connection
 * @param {number} count
 */
function onMessages(connection, count) {
  const sent = waiting.get(connection)
  if (sent === undefined || count !== 1)
    throw new Error(`${count} messages came at once, and one at most was asked for`)
  waiting.delete(connection)
  latencies.add(performance.now() - sent)
  answered.add(connection)
  onAnswer()
}

/**
 * The connections send one after the other, evenly spread over the time.
 * @param {{ seconds: number, every: number, patience: number }} options
 */
async function run({ seconds, every, patience }) {
  latencies = new Latencies()
  answered = new Set()
  const cpu = process.cpuUsage()
  const before = receivedBytes()
  const started = performance.now()
  const perMs = connections.length / (every * 1000)
  let turn = 0
  let late = 0
  await new Promise(resolve => {
    const timer = setInterval(() => {
      const elapsed = performance.now() - started
      for (const due = Math.min(elapsed, seconds * 1000) * perMs; turn < due; turn++) {
        const connection = connections[turn % connections.length]
        // A connection without an answer by its next turn keeps waiting.
        if (waiting.has(connection)) late++
        else {
          waiting.set(connection, performance.now())
          connection.write(batch)
        }
      }
      if (elapsed < seconds * 1000) return
      clearInterval(timer)
      resolve(undefined)
    }, 1)
  })
  await allAnswered(patience)
  const { user, system } = process.cpuUsage(cpu)
  const sent = turn - late
  const bytes = receivedBytes() - before
  if (bytes !== sent * SIZE) throw new Error(`${sent} messages of ${SIZE} bytes came back as ${bytes} bytes`)
  return { sent, late, answered: answered.size, latencies, cpu: (user + system) / 1e6 }
}

function receivedBytes() {
  return connections.reduce((sum, connection) => sum + connection.bytes, 0)
}

/**
 * @param {number} seconds
 * @returns {Promise<void>}
 */
function allAnswered(seconds) {
  return new Promise(resolve => {
    const timer = setTimeout(() => {
      throw new Error(`${waiting.size} messages had no answer within ${seconds} s`)
    }, seconds * 1000)
    onAnswer = () => {
      if (waiting.size > 0) return
      clearTimeout(timer)
      onAnswer = () => {}
      resolve()
    }
    onAnswer()
  })
}

process.on('message', async (/** @type {{ open?: any, run?: any }} */ question) => {
  process.send?.(await (question.open === undefined ? run(question.run) : open(question.open)))
})
process.on('disconnect', () => process.exit())
process.on('uncaughtException', error => {
  process.send?.({ error: error.message }, () => process.exit(1))
})
