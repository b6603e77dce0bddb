// The plan of a client.

export const ROUTES = {
  '/events': 4,
  '/fragments': 1,
  '/loop': 2,
  '/stream': 2,
  '/deflate': 2,
  '/takeover': 2,
  '/broadcast': 2,
  '/failing': 1,
  '/closing': 1
}

/** The ways in which a client ends its connection. */
const ENDINGS = {
  /** A closing handshake after all expected messages have arrived. */
  close: 40,
  /** A Close frame immediately after messages. */
  'close at once': 15,
  /** The end of the client's side of TCP, without a Close frame. */
  'half-close': 10,
  reset: 10,
  leave: 10,
  /** The client reads and sends nothing, until it is cut. */
  silence: 2,
  /** The client breaks the protocol. */
  violation: 8,
  /** The client requests more than it reads. */
  flood: 0.7
}

const CODES = [
  undefined,
  1000,
  1001,
  1002,
  1003,
  1007,
  1008,
  1009,
  1010,
  1011,
  1012,
  1013,
  1014,
  3000,
  4000,
  4999
]

/** The choices of a client application. */
const SERVER_CODES = [1000, 1001, 1008, 1011, 1012, 1013, 3000, 4321]

const HOWS = ['handler', 'async handler', 'listener', 'async listener']

/** Routes that may leave the last messages unread or unanswered when the connection ends: pipes, and loops that await. */
const LAZY = new Set(['/stream', '/loop'])

/**
 * @typedef {object} Plan
 * @property {string} route
 * @property {string} ending
 * @property {string} query
 * @property {boolean} offersDeflate
 * @property {number} rounds
 * @property {number | undefined} code of the Close frame.
 * @property {number} after on how many messages the server acts.
 * @property {boolean} isLazy
 */

/**
 * @param {import('../random.js').Random} random
 * @returns {Plan}
 */
export function makePlan(random) {
  const route = random.weighted(ROUTES)
  const after = random.between(1, 12)
  const plan = {
    route,
    ending: random.weighted(ENDINGS),
    query: '',
    offersDeflate: ['/deflate', '/takeover'].includes(route) || random.chance(0.3),
    rounds: random.chance(0.7) ? random.between(1, 8) : random.between(10, 60),
    code: random.pick(CODES),
    after,
    isLazy: LAZY.has(route)
  }
  if (route === '/failing') {
    const how = random.pick(HOWS)
    return { ...plan, ending: 'error', query: `&how=${encodeURIComponent(how)}&after=${after}`, code: 1011 }
  }
  if (route === '/closing') {
    const code = random.pick(SERVER_CODES)
    const ending = random.chance(0.8) ? 'closed' : 'ignored close'
    return { ...plan, ending, query: `&code=${code}&after=${after}`, code }
  }
  if (plan.ending === 'flood' && route !== '/events') return { ...plan, ending: 'close' }
  return plan
}
