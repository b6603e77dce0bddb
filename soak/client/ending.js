import { BINARY, FIN, TEXT } from '../../bench/load/frame.js'
import { CLOSE_TIMEOUT, HEARTBEAT, LOWEST_RATE, MAX_PAYLOAD } from '../settings.js'
import { Problem } from './client.js'

const ABNORMAL = 1006
const NO_STATUS = 1005

/** More than the operating system buffers for a connection. */
const FLOOD = 64 * 2 ** 20

/**
 * What the server has to have seen at the end: the code of its `close` event and its error; whether it has to have got all
 * messages, and the client all that was sent to it. Otherwise a part from the beginning will do.
 * @typedef {{ code: number, error?: string, gaveAll?: boolean, gotAll?: boolean }} Expected
 */

/**
 * @typedef {object} Scene
 * @property {import('./client.js').Client} client
 * @property {import('./plan.js').Plan} plan
 * @property {import('../random.js').Random} random
 * @property {import('./world.js').World} world
 */

/** @type {Record<string, (scene: Scene) => Promise<Expected>>} */
export const endings = {
  async close({ client, plan: { code } }) {
    await allEchoes(client)
    client.write(client.close(code, code === undefined ? '' : 'bye'))
    await closedWith(client, code ?? NO_STATUS)
    return { code: code ?? NO_STATUS, gaveAll: true, gotAll: true }
  },

  async 'close at once'({ client, plan: { code, isLazy, route }, random }) {
    client.write(Buffer.concat([client.messages(random.between(1, 6)), client.close(code)]))
    await closedWith(client, code ?? NO_STATUS)
    // A pipe may have pending messages that it can no longer send.
    const isPipe = isLazy && route === '/stream'
    return { code: code ?? NO_STATUS, gaveAll: !isPipe, gotAll: !isPipe }
  },

  async 'half-close'({ client, plan: { isLazy }, random }) {
    client.write(client.messages(random.between(0, 6)))
    client.halfClose()
    await over(client)
    return { code: ABNORMAL, gaveAll: !isLazy }
  },

  async reset({ client, random }) {
    client.write(client.messages(random.between(0, 6)))
    client.reset()
    return { code: ABNORMAL }
  },

  async leave({ client, random }) {
    client.write(client.messages(random.between(0, 6)))
    client.destroy()
    return { code: ABNORMAL }
  },

  async silence({ client, world }) {
    client.mute()
    client.stall()
    await world.pause(1.5 * (HEARTBEAT.interval + HEARTBEAT.timeout))
    client.resume()
    await cut(client, world)
    return { code: ABNORMAL }
  },

  async violation({ client, plan: { isLazy }, random }) {
    const { bytes, closeCode, error } = random.pick(VIOLATIONS)
    const messages = client.messages(random.between(0, 4))
    client.write(Buffer.concat([messages, bytes(client)]))
    await closedWith(client, closeCode)
    return { code: ABNORMAL, error: `FST_UPGRADE_${error}`, gaveAll: !isLazy, gotAll: !isLazy }
  },

  async flood({ client }) {
    client.stall()
    const start = client.bytes
    while (!client.isOver && client.bytes - start < FLOOD) {
      // Without pings, which `maxControlFrames` limits.
      client.write(client.messages(20, false))
      await new Promise(resolve => setImmediate(resolve))
    }
    client.resume()
    await over(client)
    return { code: ABNORMAL, error: 'FST_UPGRADE_BUFFER_OVERFLOW' }
  },

  async error({ client, plan: { after } }) {
    client.write(client.messages(after))
    await closing(client, 1011)
    client.write(client.close(1011))
    await over(client)
    return { code: 1011, gotAll: true }
  },

  async closed({ client, plan: { after, code = NO_STATUS } }) {
    client.write(client.messages(after))
    await closing(client, code)
    client.write(client.close(code))
    await over(client)
    return { code, gaveAll: true, gotAll: true }
  },

  async 'ignored close'({ client, plan: { after, code = NO_STATUS }, world }) {
    client.write(client.messages(after))
    await closing(client, code)
    const start = performance.now()
    await cut(client, world)
    const waited = performance.now() - start
    // The delay until the Close frame was read is unknown.
    if (!world.isLeaving && waited < CLOSE_TIMEOUT / 5) {
      throw new Problem('wrong', `cut after ${Math.round(waited)} ms`)
    }
    return { code: ABNORMAL, gaveAll: true, gotAll: true }
  }
}

/** @typedef {import('./client.js').Client} Client */
/** @typedef {import('./world.js').World} World */

/** @param {Client} client */
export function allEchoes(client) {
  return whileOpen(client, 'the echoes', () => client.echoes.next === client.sent, 'lost')
}

/**
 * Pauses on a connection that must not end meanwhile.
 * @param {Client} client
 * @param {string} what
 * @param {() => boolean} predicate
 * @param {'stuck' | 'lost'} [kind]
 */
export function whileOpen(client, what, predicate, kind) {
  const isDone = () => {
    if (predicate()) return true
    if (!client.isOver && client.closeCode === undefined) return false
    throw new Problem('wrong', `the connection ended before ${what}, ${endOf(client)}`)
  }
  return client.until(what, isDone, kind)
}

/** @param {Client} client */
function over(client) {
  return client.until('the end of TCP', () => client.isOver)
}

/**
 * Waits for the end of a connection whose client does not answer, or for the end of the run. The server waits too while the
 * client may be reading.
 * @param {Client} client
 * @param {World} world
 */
function cut(client, world) {
  const extraTime = () => (1000 * client.bytesRead) / LOWEST_RATE
  return Promise.race([client.until('the end of TCP', () => client.isOver, 'stuck', extraTime), world.left])
}

/** @param {Client} client */
function endOf({ closeCode, socketError }) {
  return closeCode === undefined
    ? `without a Close frame (error of TCP: ${socketError})`
    : `with ${closeCode}`
}

/**
 * @param {Client} client
 * @param {number} code
 */
async function closing(client, code) {
  await client.until('a Close frame', () => client.closeCode !== undefined || client.isOver)
  if (client.closeCode !== code) throw new Problem('wrong', `closed ${endOf(client)} instead of ${code}`)
}

/**
 * @param {Client} client
 * @param {number} code
 */
async function closedWith(client, code) {
  await closing(client, code)
  await over(client)
}

/** @type {readonly { closeCode: number, error: string, bytes: (client: Client) => Buffer }[]} */
const VIOLATIONS = [
  { closeCode: 1002, error: 'UNMASKED_FRAME', bytes: () => Buffer.from([FIN | TEXT, 1, 65]) },
  {
    closeCode: 1002,
    error: 'RESERVED_BITS',
    bytes: client => client.frame(FIN | 0x20 | TEXT, Buffer.from('a'))
  },
  { closeCode: 1002, error: 'INVALID_OPCODE', bytes: client => client.frame(FIN | 3, Buffer.from('a')) },
  { closeCode: 1002, error: 'UNEXPECTED_CONTINUATION', bytes: client => client.frame(FIN, Buffer.from('a')) },
  { closeCode: 1002, error: 'INVALID_CLOSE_CODE', bytes: client => client.close(1006) },
  {
    closeCode: 1007,
    error: 'INVALID_UTF8',
    bytes: client => client.frame(FIN | TEXT, Buffer.from([0xc3, 0x28]))
  },
  {
    closeCode: 1009,
    error: 'MESSAGE_TOO_BIG',
    // The header suffices.
    bytes: () => Buffer.from([FIN | BINARY, 0xff, 0, 0, 0, 0, 0, MAX_PAYLOAD >> 16, 0, 1, 1, 2, 3, 4])
  }
]
