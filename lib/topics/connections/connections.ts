import { randomBytes } from 'node:crypto'
import { InvalidIdError } from '../error.js'
import type { Prepare } from '../history-entry.js'
import type { Publication, RemoteMessage } from '../publication.js'
import { problemOf } from '../text.js'
import type { Subscriber } from '../topics.js'
import { First } from './first.js'
import type { Parts, Processes, Replies, RequestHandler, Result } from './processes.js'
import {
  type Answer,
  type ConnectionFilter,
  type ConnectionInfo,
  type ConnectionSort,
  type DescribedConnection,
  MAX_ANSWER_SIZE,
  MAX_TOPICS,
  MAX_TOPICS_LENGTH,
  type Request
} from './protocol.js'

/** The part of a connection that does not change. */
export interface ConnectionDetails {
  readonly user: string | undefined
  /** Milliseconds since 1970. */
  readonly since: number
  readonly remoteAddress: string | undefined
  readonly route: string
  readonly httpVersion: string
}

/** The key of the details of a connection. */
export const DETAILS: unique symbol = Symbol('fastify-upgrade.details')

/** A connection of this process. */
export interface OwnConnection<Message> extends Subscriber<Message> {
  /** Its id, which is made when it is first read. */
  readonly presenceId: string
  readonly [DETAILS]: ConnectionDetails
  readonly readyState: number
  readonly OPEN: number
  readonly protocol: string
  readonly topics: ReadonlySet<string>
  readonly latency: number | undefined
  readonly bufferedAmount: number
  readonly traffic: Pick<
    DescribedConnection,
    'messagesReceived' | 'messagesSent' | 'bytesReceived' | 'bytesSent'
  >
  renew(until: number): boolean
  close(code?: number, reason?: string): void
}

/** The result of a call to connections in all processes. */
export interface Reached {
  /** The number of open connections that the call has reached. */
  readonly connections: number
  /** The number of processes that have answered, including this one. */
  readonly processes: number
  /**
   * Whether all processes have answered. False when a process that is known to run has not answered within two seconds, or
   * the broker has not accepted the request.
   */
  readonly isComplete: boolean
}

/** A list of connections of all processes. */
export interface ConnectionList extends Pick<Reached, 'processes' | 'isComplete'> {
  /** The first matching connections in the requested order, at most `limit`. */
  readonly connections: readonly ConnectionInfo[]
  /** The number of all matching connections, in the processes that have answered. */
  readonly total: number
}

export interface ConnectionQuery extends ConnectionFilter {
  readonly sort: ConnectionSort
  readonly limit: number
}

/** The reports of all processes about themselves, that of this one first. */
export interface Reports extends Pick<Reached, 'isComplete'> {
  readonly reports: readonly {
    readonly process: string
    /** The number of open connections. */
    readonly connections: number
    /** Undefined for a process that has no reporter. */
    readonly report: string | undefined
  }[]
}

interface ConnectionsOptions<Message, Own> {
  /** The connections of this process in the order in which they were opened. The set changes as they come and go. */
  readonly own: ReadonlySet<Own>
  /** Undefined without a broker. */
  readonly processes: Processes | undefined
  /** Creates the message that connections get from a message of another process. */
  readonly prepare: Prepare<Message>
  /** Called with errors of connections' methods that the application has replaced. */
  readonly onError: (error: unknown) => void
}

const NO_CONNECTIONS: ReadonlySet<never> = new Set<never>()

/** The connections of all processes: finds them, sends to those of a user, and closes them. */
export class Connections<Message extends Publication, Own extends OwnConnection<Message>>
  implements RequestHandler
{
  readonly #own: ReadonlySet<Own>
  readonly #processes: Processes | undefined
  readonly #prepare: Prepare<Message>
  readonly #onError: (error: unknown) => void
  readonly #process: string
  /** Reports about this process, in at most 64 KiB. */
  reporter: (() => string) | undefined
  /** The connections that have a user, by its id. */
  readonly #byUser = new Map<string, Set<Own>>()
  /** The connections whose id was read. */
  readonly #byId = new Map<string, Own>()

  constructor({ own, processes, prepare, onError }: ConnectionsOptions<Message, Own>) {
    this.#own = own
    this.#processes = processes
    this.#prepare = prepare
    this.#onError = onError
    this.#process = processes?.id ?? randomBytes(16).toString('hex')
  }

  /** Answers the requests of other processes from now on. */
  open(): void {
    this.#processes?.serve(this)
  }

  // The connections of this process

  add(connection: Own): void {
    const { user } = connection[DETAILS]
    if (user === undefined) return
    const connections = this.#byUser.get(user)
    if (connections === undefined) this.#byUser.set(user, new Set([connection]))
    else connections.add(connection)
  }

  /** The id of a connection was read for the first time. */
  identify(id: string, connection: Own): void {
    this.#byId.set(id, connection)
  }

  /** A connection whose id was read has ended. */
  forget(id: string): void {
    this.#byId.delete(id)
  }

  remove(connection: Own): void {
    const { user } = connection[DETAILS]
    if (user === undefined) return
    const connections = this.#byUser.get(user)
    if (connections?.delete(connection) === true && connections.size === 0) this.#byUser.delete(user)
  }

  /** The number of users and of ids that are kept. */
  get indexSize(): number {
    return this.#byUser.size + this.#byId.size
  }

  // The connections of all processes

  async list(query: ConnectionQuery): Promise<ConnectionList> {
    const { selected, total } = this.#select(query)
    const process = this.#process
    const lists: Lists = new Map([[process, selected.map(one => ({ ...describe(one), process }))]])
    if (this.#processes === undefined)
      return { connections: merge(lists, query), total, processes: 1, isComplete: true }
    const { call, answers, isComplete } = await this.#processes.ask({ ...query, type: 'list' })
    let unfinished = receive(lists, answers, query)
    let hasAll = isComplete
    for (;;) {
      const connections = merge(lists, query)
      const wanted = wantedOf(unfinished, connections, query)
      if (wanted.length === 0)
        return { connections, total: sumOf(answers, total), processes: answers.size + 1, isComplete: hasAll }
      const replies = await this.#processes.askForMore(call, wanted)
      hasAll &&= replies.isComplete
      unfinished = receive(lists, replies.answers, query)
    }
  }

  /** The number of open connections of a user. */
  countOfUser(user: string): Promise<Reached> {
    const request: Request = { type: 'list', user, sort: 'since', limit: 0 }
    return this.#ask(request, this.#select(request).total)
  }

  /** Sends a message to the open connections of a user: to those of this process at once. */
  sendToUser(user: string, message: Message): Promise<Reached> {
    return this.#ask({ type: 'send', user }, this.#send(user, message), message)
  }

  /** Moves the expiry of the open connections of a user: of those of this process at once. */
  renewUser(user: string, until: number): Promise<Reached> {
    return this.#ask({ type: 'renew', user, until }, this.#renew(user, until))
  }

  /** Closes the open connections of a user: those of this process at once. */
  closeUser(user: string, code: number | undefined, reason: string | undefined): Promise<Reached> {
    const request: Request = { type: 'close', of: 'user', id: user, code, reason }
    return this.#ask(request, this.#close(request))
  }

  /** Closes a connection. If it is not one of this process, the call ends when another process has closed it. */
  closeConnection(id: string, code: number | undefined, reason: string | undefined): Promise<Reached> {
    const request: Request = { type: 'close', of: 'connection', id, code, reason }
    const count = this.#close(request)
    if (count > 0) return Promise.resolve({ connections: count, processes: 1, isComplete: true })
    return this.#ask(request, count, undefined, answer => answer.count > 0)
  }

  /** Asks all processes for their reports. */
  async reports(): Promise<Reports> {
    const { count: connections, report } = this.#report()
    const own = { process: this.#process, connections, report }
    if (this.#processes === undefined) return { reports: [own], isComplete: true }
    const { answers, isComplete } = await this.#processes.ask({ type: 'report' })
    const others = Array.from(answers, ([process, { count, report }]) => ({
      process,
      connections: count,
      report
    }))
    return { reports: [own, ...others], isComplete }
  }

  #report(): Result {
    return { count: this.#own.size, report: this.reporter?.() }
  }

  async #ask(
    request: Request,
    own: number,
    message?: Message,
    isEnough?: (answer: Answer) => boolean
  ): Promise<Reached> {
    if (this.#processes === undefined) return { connections: own, processes: 1, isComplete: true }
    const { answers, isComplete } = await this.#processes.ask(request, message, isEnough)
    return { connections: sumOf(answers, own), processes: answers.size + 1, isComplete }
  }

  // The requests of other processes

  onRequest(request: Request, { payload, isBinary, compress }: RemoteMessage): Result {
    if (request.type === 'close') return { count: this.#close(request) }
    if (request.type === 'renew') return { count: this.#renew(request.user, request.until) }
    if (request.type === 'report') return this.#report()
    if (request.type === 'send') {
      // Without connections there is nothing to prepare.
      if (!this.#byUser.has(request.user)) return { count: 0 }
      return { count: this.#send(request.user, this.#prepare(payload, { binary: isBinary, compress })) }
    }
    const { selected, total } = this.#select(request)
    return { count: total, parts: new ListParts(selected) }
  }

  // What a request does in this process

  /** The first connections in the order that was asked for, and the number of all. */
  #select(query: ConnectionQuery): { readonly selected: readonly Own[]; readonly total: number } {
    const { user, limit, sort } = query
    const candidates = user === undefined ? this.#own : this.#ofUser(user)
    const first = new First<Own>(limit, connection => KEYS[sort](sortable(connection)))
    let total = 0
    for (const connection of candidates) {
      if (connection.readyState !== connection.OPEN || !matches(connection, query)) continue
      total++
      first.add(connection)
    }
    return { selected: first.sorted(), total }
  }

  #send(user: string, message: Message): number {
    return this.#forEachOpen(this.#ofUser(user), connection => connection.send(message))
  }

  #renew(user: string, until: number): number {
    return this.#forEachOpen(this.#ofUser(user), connection => connection.renew(until))
  }

  #close({ of, id, code, reason }: Request & { readonly type: 'close' }): number {
    const connection = this.#byId.get(id)
    const single = connection === undefined ? NO_CONNECTIONS : [connection]
    return this.#forEachOpen(of === 'user' ? this.#ofUser(id) : single, one => one.close(code, reason))
  }

  /** An application may have replaced a method of a connection. If it throws, it is still called on the others. */
  #forEachOpen(connections: Iterable<Own>, call: (connection: Own) => unknown): number {
    let count = 0
    for (const connection of connections) {
      if (connection.readyState !== connection.OPEN) continue
      count++
      try {
        call(connection)
      } catch (error) {
        this.#onError(error)
      }
    }
    return count
  }

  #ofUser(user: string): ReadonlySet<Own> {
    return this.#byUser.get(user) ?? NO_CONNECTIONS
  }
}

function describe(connection: OwnConnection<never>): DescribedConnection {
  const { [DETAILS]: details, traffic, latency, bufferedAmount, protocol, topics } = connection
  const { user, since, remoteAddress, route, httpVersion } = details
  return {
    id: connection.presenceId,
    user,
    since,
    remoteAddress,
    route,
    subprotocol: protocol,
    httpVersion,
    topics: firstOf(topics),
    latency,
    bufferedAmount,
    ...traffic
  }
}

const MAX_ID_SIZE = 256

/** @throws {TypeError} `FST_UPGRADE_INVALID_ID` */
export function checkId(of: 'user' | 'connection', id: unknown): asserts id is string {
  const problem = problemOf(id, MAX_ID_SIZE)
  if (problem !== undefined) throw new InvalidIdError(of, problem)
}

/** Whether a value can be the id of a user or a connection. */
export function isId(value: unknown): value is string {
  return problemOf(value, MAX_ID_SIZE) === undefined
}

function matches<Message>(
  { [DETAILS]: details, topics }: OwnConnection<Message>,
  { topic, route, remoteAddress }: ConnectionFilter
): boolean {
  return (
    (topic === undefined || topics.has(topic)) &&
    (route === undefined || details.route === route) &&
    (remoteAddress === undefined || details.remoteAddress === remoteAddress)
  )
}

/** The properties by which connections are sorted. */
type Sortable = Pick<DescribedConnection, 'since' | 'bytesReceived' | 'bytesSent' | 'bufferedAmount'>

/** Connections are sorted by these numbers, the lowest first, in their process and in the list of all. */
const KEYS: Readonly<Record<ConnectionSort, (connection: Sortable) => number>> = {
  since: ({ since }) => since,
  traffic: ({ bytesReceived, bytesSent }) => -(bytesReceived + bytesSent),
  buffered: ({ bufferedAmount }) => -bufferedAmount
}

function sortable({ [DETAILS]: { since }, traffic, bufferedAmount }: OwnConnection<never>): Sortable {
  return { since, bufferedAmount, ...traffic }
}

/** A list for another process. A connection that has closed meanwhile is left out. */
class ListParts implements Parts {
  readonly #connections: readonly OwnConnection<never>[]
  #next = 0

  constructor(connections: readonly OwnConnection<never>[]) {
    this.#connections = connections
  }

  next(): Pick<Answer, 'connections' | 'more'> {
    const part: DescribedConnection[] = []
    let size = 0
    for (; this.#next < this.#connections.length; this.#next++) {
      const connection = this.#connections[this.#next]
      if (connection.readyState !== connection.OPEN) continue
      const described = describe(connection)
      size += Buffer.byteLength(JSON.stringify(described))
      if (size > MAX_ANSWER_SIZE && part.length > 0) break
      part.push(described)
    }
    return { connections: part, more: this.#next < this.#connections.length }
  }
}

/** The lists that the processes have sent so far. */
type Lists = Map<string, readonly ConnectionInfo[]>

/** A process that has more connections than it has sent. */
interface Unfinished {
  readonly process: string
  readonly last: ConnectionInfo
}

/** Adds the answers to the lists. @returns the processes whose lists go on. */
function receive(lists: Lists, answers: Replies['answers'], { limit }: ConnectionQuery): Unfinished[] {
  const unfinished: Unfinished[] = []
  for (const [process, { connections, more }] of answers) {
    const part = connections.map(connection => ({ ...connection, process }))
    const list = [...(lists.get(process) ?? []), ...part]
    lists.set(process, list)
    const last = part.at(-1)
    if (more && last !== undefined && list.length < limit) unfinished.push({ process, last })
  }
  return unfinished
}

function byKey(sort: ConnectionSort): (a: ConnectionInfo, b: ConnectionInfo) => number {
  const keyOf = KEYS[sort]
  return (a, b) => keyOf(a) - keyOf(b) || (a.id < b.id ? -1 : 1)
}

/** The first connections of all lists. */
function merge(lists: Lists, { sort, limit }: ConnectionQuery): ConnectionInfo[] {
  return [...lists.values()].flat().sort(byKey(sort)).slice(0, limit)
}

/** The processes whose rest may be among the first connections of all lists. */
function wantedOf(
  unfinished: readonly Unfinished[],
  first: readonly ConnectionInfo[],
  { sort, limit }: ConnectionQuery
): string[] {
  const compare = byKey(sort)
  const end = first.length < limit ? undefined : first.at(-1)
  return unfinished
    .filter(({ last }) => end === undefined || compare(last, end) < 0)
    .map(({ process }) => process)
}

function sumOf(answers: Replies['answers'], own: number): number {
  return [...answers.values()].reduce((sum, { count }) => sum + count, own)
}

/** The first topics of a connection. Clients may choose their names, and a list has many connections. */
function firstOf(topics: Iterable<string>): string[] {
  const first: string[] = []
  let length = 0
  for (const topic of topics) {
    length += topic.length
    if (first.length === MAX_TOPICS || length > MAX_TOPICS_LENGTH) break
    first.push(topic)
  }
  return first
}
