import { isValidCloseCode } from '../../protocol/close-code.js'
import type { Publication } from '../publication.js'

/** The orders of a list of connections. */
export const SORTS = ['since', 'traffic', 'buffered'] as const

export type ConnectionSort = (typeof SORTS)[number]

/** The connections that a call is about. An absent property selects all. */
export interface ConnectionFilter {
  readonly user?: string | undefined
  readonly topic?: string | undefined
  readonly route?: string | undefined
  readonly remoteAddress?: string | undefined
}

/** A connection, as its own process describes it to the others. */
export interface DescribedConnection {
  /** The id of the connection: `socket.id`. */
  readonly id: string
  /** The id of its user, if it has one. */
  readonly user?: string | undefined
  /** When the connection was opened, in milliseconds since 1970. */
  readonly since: number
  /** The address of the client, as `request.ip`. It is absent if there is no address, for example over a Unix socket. */
  readonly remoteAddress?: string | undefined
  /** The path of its route as it was registered, with its prefix. */
  readonly route: string
  /** The subprotocol; empty for none. */
  readonly subprotocol: string
  /** `1.1` or `2.0`. */
  readonly httpVersion: string
  /** The first subscriptions of the connection: at most 100, and 4,096 characters together. */
  readonly topics: readonly string[]
  /** The last round trip of the heartbeat in milliseconds; absent before the first. */
  readonly latency?: number | undefined
  /** Pending bytes. */
  readonly bufferedAmount: number
  /** Messages of the application. */
  readonly messagesReceived: number
  readonly messagesSent: number
  /** All bytes after the handshake. */
  readonly bytesReceived: number
  readonly bytesSent: number
}

/** A connection of any process. */
export interface ConnectionInfo extends DescribedConnection {
  /** A random id of its process. Each `websocketServer` has its own. */
  readonly process: string
}

/** A request to all processes. */
export type Request =
  | ({ readonly type: 'list'; readonly sort: ConnectionSort; readonly limit: number } & ConnectionFilter)
  /** The message follows in the body. */
  | { readonly type: 'send'; readonly user: string }
  /** Milliseconds since 1970. */
  | { readonly type: 'renew'; readonly user: string; readonly until: number }
  /** Asks for the report of a process about itself. */
  | { readonly type: 'report' }
  | {
      readonly type: 'close'
      readonly of: 'user' | 'connection'
      readonly id: string
      readonly code?: number | undefined
      readonly reason?: string | undefined
    }

/** The answer of a process to a request. */
export interface Answer {
  /** The number of connections that the request was about. */
  readonly count: number
  /** A part of the list that was asked for. */
  readonly connections: readonly DescribedConnection[]
  /** Whether there are more. */
  readonly more: boolean
  /** The report that was asked for, which the application of these messages reads. */
  readonly report?: string | undefined
}

/** The messages that processes exchange. A call is a number that the asking process has chosen. */
export type ProcessMessage =
  /** The sender has started, or was disconnected. The other processes introduce themselves. */
  | { readonly type: 'hello' }
  /** The sender is running. Processes repeat this message, so a silent process has crashed. */
  | { readonly type: 'alive' }
  /** The sender closes. */
  | { readonly type: 'bye' }
  | (Request & { readonly call: number })
  | (Answer & { readonly type: 'answer'; readonly call: number })
  /** Asks for the next part of a list. */
  | { readonly type: 'more'; readonly call: number }

/** The maximum size of the connections in one answer, in bytes, as engines limit messages. One connection may be larger. */
export const MAX_ANSWER_SIZE = 65_536

/** The maximum number of topics of a connection in an answer. */
export const MAX_TOPICS = 100

/** The maximum length of these topics together, in characters. */
export const MAX_TOPICS_LENGTH = 4096

const NEWLINE = 10

/** @param body the message to send, after the line of JSON. */
export function encodeMessage(message: ProcessMessage, body?: Publication): Publication {
  const line = JSON.stringify(message)
  if (body === undefined) return { payload: line, isBinary: false, compress: false }
  const { payload, isBinary, compress } = body
  if (typeof payload === 'string') return { payload: `${line}\n${payload}`, isBinary, compress }
  return { payload: Buffer.concat([Buffer.from(`${line}\n`), payload]), isBinary, compress }
}

export interface DecodedMessage {
  readonly message: ProcessMessage
  /** The bytes after the line of JSON. */
  readonly body: Buffer
}

/** @returns undefined for bytes that {@link encodeMessage} did not write. */
export function decodeMessage(payload: Uint8Array): DecodedMessage | undefined {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length)
  const newline = bytes.indexOf(NEWLINE)
  const end = newline === -1 ? bytes.length : newline
  let message: unknown
  try {
    message = JSON.parse(bytes.toString('utf8', 0, end))
  } catch {
    return undefined
  }
  return isMessage(message) ? { message, body: bytes.subarray(end + 1) } : undefined
}

type Check = (value: unknown) => boolean

const isText: Check = value => typeof value === 'string'
const isCount: Check = value => Number.isSafeInteger(value) && Number(value) >= 0
const isNumber: Check = value => Number.isFinite(value)

function optional(check: Check): Check {
  return value => value === undefined || check(value)
}

function hasAll(value: unknown, checks: Readonly<Record<string, Check>>): boolean {
  if (typeof value !== 'object' || value === null) return false
  return Object.entries(checks).every(([name, check]) => check(Reflect.get(value, name)))
}

const isReason: Check = value => typeof value === 'string' && Buffer.byteLength(value) <= MAX_REASON
const MAX_REASON = 123

const CONNECTION: Readonly<Record<keyof DescribedConnection, Check>> = {
  id: isText,
  user: optional(isText),
  since: isNumber,
  remoteAddress: optional(isText),
  route: isText,
  subprotocol: isText,
  httpVersion: isText,
  topics: value => Array.isArray(value) && value.every(isText),
  latency: optional(isNumber),
  bufferedAmount: isCount,
  messagesReceived: isCount,
  messagesSent: isCount,
  bytesReceived: isCount,
  bytesSent: isCount
}

const MESSAGES: Readonly<Record<ProcessMessage['type'], Readonly<Record<string, Check>>>> = {
  hello: {},
  alive: {},
  bye: {},
  list: {
    call: isCount,
    sort: value => SORTS.some(sort => sort === value),
    limit: isCount,
    user: optional(isText),
    topic: optional(isText),
    route: optional(isText),
    remoteAddress: optional(isText)
  },
  send: { call: isCount, user: isText },
  renew: { call: isCount, user: isText, until: isNumber },
  report: { call: isCount },
  close: {
    call: isCount,
    of: value => value === 'user' || value === 'connection',
    id: isText,
    code: optional(value => Number.isInteger(value) && isValidCloseCode(Number(value))),
    reason: optional(isReason)
  },
  answer: {
    call: isCount,
    count: isCount,
    connections: value => Array.isArray(value) && value.every(one => hasAll(one, CONNECTION)),
    more: value => typeof value === 'boolean',
    report: optional(isText)
  },
  more: { call: isCount }
}

function isMessage(value: unknown): value is ProcessMessage {
  const type: unknown = Reflect.get(Object(value), 'type')
  return Object.entries(MESSAGES).some(([name, checks]) => name === type && hasAll(value, checks))
}
