/**
 * @typedef {import('./client/life.js').Entry} Entry
 * @typedef {object} Seen the server's record of a closed connection, or of a refused handshake.
 * @property {number} id
 * @property {number} [status]
 * @property {number} code
 * @property {string} [error]
 * @property {number} received
 * @property {number} sent
 * @property {number} pushed
 * @property {Record<string, number>} [problems]
 */

/** @typedef {'messages' | 'closes' | 'refusals' | 'progress'} Check */

/** The number of problems per check that are kept to be printed. */
const KEPT = 20

const CHECK_OF = { stuck: 'progress', wrong: 'closes' }

/** Compares the actions of each client with the server's record of it. Matching pairs are removed. */
export class Ledger {
  /** @type {Map<number, Entry>} */
  #clients = new Map()
  /** @type {Map<number, Seen>} */
  #server = new Map()
  /** @type {Record<Check, number>} */
  broken = { messages: 0, closes: 0, refusals: 0, progress: 0 }
  /** @type {string[]} */
  problems = []
  totals = { closed: 0, refused: 0, received: 0, echoed: 0, pushed: 0, bytes: 0, pings: 0 }
  /** @type {Record<'endings' | 'codes' | 'statuses' | 'routes', Record<string, number>>} */
  counts = { endings: {}, codes: {}, statuses: {}, routes: {} }

  /** @param {Entry[]} entries */
  addClients(entries) {
    for (const entry of entries) {
      count(this.counts.endings, entry.ending)
      if (entry.route !== undefined) count(this.counts.routes, entry.route)
      this.totals.bytes += entry.bytes ?? 0
      this.totals.pings += entry.pings ?? 0
      this.totals.echoed += entry.echoed ?? 0
      this.#clients.set(entry.id, entry)
      this.#settle(entry.id)
    }
  }

  /** @param {{ closed: Seen[], refused: Seen[] }} seen */
  addServer({ closed, refused }) {
    for (const one of closed) {
      count(this.counts.codes, String(one.code))
      this.totals.closed++
      this.totals.received += one.received
      this.totals.pushed += one.pushed
    }
    for (const { status } of refused) count(this.counts.statuses, String(status))
    this.totals.refused += refused.length
    for (const one of [...closed, ...refused]) {
      if (this.#server.has(one.id)) this.#add('closes', `${one.id}: seen twice by the server`)
      this.#server.set(one.id, one)
      this.#settle(one.id)
    }
  }

  /** The run is over: a record of only one side is a problem. */
  finish() {
    for (const [id, entry] of this.#clients) {
      if (entry.isUnsure || entry.problems?.length) this.#report(entry)
      else this.#add('closes', `${id}: ${entry.ending} on ${entry.route}, and the server knows nothing of it`)
    }
    for (const { id, code, status } of this.#server.values()) {
      this.#add('closes', `${id}: the server saw ${status ?? code}, and no client knows of it`)
    }
  }

  /** @param {number} id */
  #settle(id) {
    const entry = this.#clients.get(id)
    const seen = this.#server.get(id)
    if (entry === undefined || seen === undefined) return
    this.#clients.delete(id)
    this.#server.delete(id)
    this.#report(entry)
    for (const [kind, n] of Object.entries(seen.problems ?? {})) {
      this.#add('messages', `${id}: ${n} messages to ${entry.route} ${kind}`)
    }
    if (entry.isUnsure || entry.problems?.length) return
    if (entry.status === undefined) this.#compare(entry, seen)
    else if (entry.status !== seen.status) {
      this.#add('refusals', `${id}: ${entry.status}, and the server says ${seen.status ?? seen.code}`)
    }
  }

  /** @param {Entry} entry */
  #report({ id, route, ending, problems = [] }) {
    for (const { kind, message } of problems) {
      const check = kind in CHECK_OF ? CHECK_OF[/** @type {'stuck'} */ (kind)] : 'messages'
      this.#add(/** @type {Check} */ (check), `${id}: ${ending} on ${route}: ${kind}: ${message}`)
    }
  }

  /**
   * @param {Entry} entry
   * @param {Seen} seen
   */
  #compare({ id, route, ending, expected, sent = 0, echoed = 0, pushed = 0 }, seen) {
    const what = `${id}: ${ending} on ${route}`
    const { code, error, gaveAll, gotAll } = expected ?? { code: 0 }
    if (seen.code !== code) this.#add('closes', `${what}: code ${seen.code} instead of ${code}`)
    if (seen.error !== error) this.#add('closes', `${what}: error ${seen.error} instead of ${error}`)
    const amounts = [
      { name: 'messages to the server', from: sent, to: seen.received, all: gaveAll },
      { name: 'echoes', from: seen.sent, to: echoed, all: gotAll },
      { name: 'broadcasts', from: seen.pushed, to: pushed, all: gotAll }
    ]
    for (const { name, from, to, all } of amounts) {
      if (all ? to !== from : to > from) this.#add('messages', `${what}: ${to} of ${from} ${name}`)
    }
  }

  /**
   * @param {Check} check
   * @param {string} problem
   */
  #add(check, problem) {
    this.broken[check]++
    if (this.broken[check] <= KEPT) this.problems.push(problem)
  }
}

/**
 * @param {Record<string, number>} counts
 * @param {string} name
 */
function count(counts, name) {
  counts[name] = (counts[name] ?? 0) + 1
}
