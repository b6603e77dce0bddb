import { makeHead, openingFields } from '../../bench/load/opening.js'
import { mix, Random } from '../random.js'
import { STALL } from '../settings.js'
import { Client, Problem } from './client.js'
import { allEchoes, endings, whileOpen } from './ending.js'
import { makePlan } from './plan.js'
import { REFUSALS } from './refusal.js'

/** Source addresses. There are several on Linux, so that ports in TIME_WAIT do not limit the run; other systems have one. */
const ADDRESSES = 16

const OFFERS = [
  'permessage-deflate',
  'permessage-deflate; client_max_window_bits; server_no_context_takeover'
]

/**
 * The actions of a client, which are compared with the records of the server. `isUnsure`: the server may have no record.
 * @typedef {object} Entry
 * @property {number} id
 * @property {string} ending
 * @property {string} [route]
 * @property {number} [status] of a refusal.
 * @property {boolean} [isUnsure]
 * @property {import('./ending.js').Expected} [expected]
 * @property {number} [sent]
 * @property {number} [bytes]
 * @property {number} [echoed]
 * @property {number} [pushed]
 * @property {number} [pings]
 * @property {{ kind: string, message: string }[]} [problems]
 */

/**
 * One client from its first byte to its last.
 * @param {number} id
 * @param {import('./world.js').World} world
 * @param {(client: Client) => void} onOpen
 * @returns {Promise<Entry>}
 */
export async function live(id, world, onOpen) {
  const random = new Random(mix(world.seed) ^ mix(id))
  const { port, patience } = world
  const localAddress = process.platform === 'linux' ? `127.0.0.${2 + (id % ADDRESSES)}` : undefined
  const client = new Client({ id, port, localAddress, patience, random })
  let plan
  try {
    await client.until('a connection', () => client.connected)
    const kind = random.weighted({ refused: 8, abandoned: 3, open: 89 })
    if (kind === 'refused') return await beRefused(client, world, random)
    if (kind === 'abandoned') return await abandon(client, world, random)
    plan = makePlan(random)
    return await converse({ client, plan, random, world }, onOpen)
  } catch (error) {
    const { route, ending = 'none' } = plan ?? {}
    const kind = error instanceof Problem ? error.kind : 'wrong'
    const message = error instanceof Error ? error.message : String(error)
    return { id, route, ending, problems: [{ kind, message }, ...sequenceProblems(client)] }
  } finally {
    client.destroy()
  }
}

/** @typedef {import('./world.js').World} World */

/**
 * @param {Client} client
 * @param {World} world
 * @param {Random} random
 */
async function beRefused(client, world, random) {
  const { status, path = '/events', method, query = '', fields } = random.pick(REFUSALS)
  const head = makeHead(
    `${path}?id=${client.id}${query}`,
    { ...openingFields(world.port), ...fields },
    method
  )
  await dribble(client, world, random, Buffer.from(head))
  await client.until('an answer', () => client.status !== 0 || client.isOver)
  if (client.status !== status) throw new Problem('wrong', `status ${client.status} instead of ${status}`)
  await client.until('the end of TCP', () => client.isOver)
  return { id: client.id, ending: 'refused', status }
}

/**
 * Disconnects during a handshake.
 * @param {Client} client
 * @param {World} world
 * @param {Random} random
 */
async function abandon(client, world, random) {
  const head = makeHead(`/events?id=${client.id}&delay=300`, openingFields(world.port))
  client.write(random.chance(0.5) ? head : head.slice(0, random.between(1, head.length - 1)))
  await world.pause(random.between(0, 200))
  if (random.chance(0.5)) client.reset()
  return { id: client.id, ending: 'abandoned', isUnsure: true }
}

/**
 * @param {import('./ending.js').Scene} scene
 * @param {(client: Client) => void} onOpen
 * @returns {Promise<Entry>}
 */
async function converse(scene, onOpen) {
  const { client, plan, world } = scene
  await open(scene)
  onOpen(client)
  if (!['error', 'closed', 'ignored close'].includes(plan.ending)) {
    for (let round = 0; round < plan.rounds && !world.isLeaving; round++) await talk(scene)
  }
  const expected = await endings[plan.ending](scene)
  const { sent, echoes, pushes, bytes, pings } = client
  const problems = sequenceProblems(client)
  const entry = {
    id: client.id,
    route: plan.route,
    ending: plan.ending,
    expected,
    sent,
    bytes,
    pings,
    problems
  }
  return { ...entry, echoed: echoes.count, pushed: pushes.count }
}

/** @param {import('./ending.js').Scene} scene */
async function open({ client, plan, random, world }) {
  const delay = random.chance(0.1) ? `&delay=${random.between(1, 100)}` : ''
  const offer = plan.offersDeflate
    ? plan.route === '/takeover'
      ? 'permessage-deflate'
      : random.pick(OFFERS)
    : undefined
  const fields = { ...openingFields(world.port), 'Sec-WebSocket-Extensions': offer }
  const head = Buffer.from(makeHead(`${plan.route}?id=${client.id}${plan.query}${delay}`, fields))
  // Uncompressed messages may follow the request immediately; compression is not negotiated yet.
  const isEarly = !plan.offersDeflate && plan.query === '' && random.chance(0.2)
  await dribble(
    client,
    world,
    random,
    isEarly ? Buffer.concat([head, client.messages(random.between(1, 3))]) : head
  )
  await client.until('the 101', () => client.status !== 0 || client.isOver)
  if (client.status !== 101) throw new Problem('wrong', `status ${client.status} instead of 101`)
}

/** @param {import('./ending.js').Scene} scene */
async function talk({ client, random, world }) {
  const bytes = client.messages(random.between(1, 8))
  const ping = random.chance(0.3) ? client.ping() : Buffer.alloc(0)
  if (random.chance(0.1)) {
    client.stall()
    client.write(Buffer.concat([bytes, ping]))
    await world.pause(random.between(1, STALL))
    client.resume()
  } else await dribble(client, world, random, Buffer.concat([bytes, ping]))
  // Some of them continue before the answers have arrived.
  if (random.chance(0.8)) {
    await allEchoes(client)
    await whileOpen(client, 'a pong', () => client.lastPong === client.pings)
  }
  await world.pause(world.pace * random.between(100, 2500))
}

/**
 * Writes everything together, or in pieces split at any position, some slowly.
 * @param {Client} client
 * @param {World} world
 * @param {Random} random
 * @param {Buffer} bytes
 */
async function dribble(client, world, random, bytes) {
  if (random.chance(0.85)) {
    client.write(bytes)
    return
  }
  const cuts = Array.from({ length: random.between(1, 5) }, () => random.between(0, bytes.length))
  const ends = [...cuts.sort((a, b) => a - b), bytes.length]
  const pieces = ends.map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end))
  await client.writePieces(pieces, () => world.pause(random.between(0, 200)))
}

/** @param {Client} client */
function sequenceProblems({ echoes, pushes }) {
  return Object.entries({ echoes, broadcasts: pushes }).flatMap(([name, { problems }]) =>
    Object.entries(problems).map(([kind, count]) => ({ kind, message: `${count} ${name}` }))
  )
}
