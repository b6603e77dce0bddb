import type { ConnectionInfo, ConnectionSort } from '../../topics/connections/protocol.js'
import {
  array,
  count,
  type Infer,
  number,
  object,
  oneOf,
  optional,
  record,
  type Schema,
  text
} from './schema.js'

// The messages between the page and the console, and those between the consoles of all processes.

/** A topic in one process. */
const TOPIC = object({
  topic: text(1024),
  subscribers: count,
  /** Presence members of this process. */
  members: count,
  /** The offset of the last publication that was delivered; absent for a topic without history. */
  offset: optional(count)
})

/** The state of a process, as it reports it to the process with the page. Totals count since its start. */
export const REPORT = object({
  pid: count,
  /** Seconds. */
  uptime: number,
  connections: count,
  messagesReceived: count,
  messagesSent: count,
  bytesReceived: count,
  bytesSent: count,
  dropped: count,
  bufferedAmount: count,
  /** The number of closed connections by close code. */
  closes: record(count),
  /** The delay of the event loop since the last report, in milliseconds: the 99th percentile and the maximum. */
  eventLoopDelay: object({ p99: number, max: number }),
  /** Bytes of the resident set. */
  memory: count,
  broker: oneOf('up', 'down', 'none'),
  lost: count,
  /** Bytes that the engine of the broker has not accepted yet. */
  pendingBytes: count,
  /** Publications that wait for earlier ones. */
  undelivered: count,
  topicCount: count,
  topics: array(TOPIC)
})

export type Report = Infer<typeof REPORT>
export type TopicReport = Infer<typeof TOPIC>

const LIST = object({
  type: oneOf('list'),
  sort: oneOf('since', 'traffic', 'buffered'),
  limit: count,
  user: optional(text(256)),
  topic: optional(text(1024)),
  route: optional(text(1024)),
  remoteAddress: optional(text(256))
})

/** The messages of the page. */
export const RECEIVE: Schema = {
  anyOf: [
    /** Which connections to show from now on. */
    LIST,
    /** Which topic to show in detail from now on; none without a name. */
    object({ type: oneOf('topic'), topic: optional(text(1024)) }),
    object({ type: oneOf('close'), connection: text(256) }),
    object({ type: oneOf('closeUser'), user: text(256) })
  ]
}

export type ListRequest = Infer<typeof LIST>
export type PageMessage =
  | ListRequest
  | { readonly type: 'topic'; readonly topic?: string | undefined }
  | { readonly type: 'close'; readonly connection: string }
  | { readonly type: 'closeUser'; readonly user: string }

/** A process in a summary. One without a console has no report. */
export interface ProcessSummary {
  readonly process: string
  readonly connections: number
  readonly report?: Report | undefined
}

/** The messages for the page. */
export type ConsoleMessage =
  | {
      readonly type: 'summary'
      /** Milliseconds until the next. */
      readonly interval: number
      /** The process with the page. */
      readonly process: string
      readonly processes: readonly ProcessSummary[]
      /** Whether all known processes have answered. */
      readonly isComplete: boolean
    }
  | {
      readonly type: 'list'
      readonly connections: readonly ConnectionInfo[]
      readonly total: number
      readonly isComplete: boolean
      readonly sort: ConnectionSort
    }
  | TopicDetail
  | {
      readonly type: 'closed'
      readonly connections: number
      readonly isComplete: boolean
    }

/** A topic in all processes. */
export interface TopicDetail {
  readonly type: 'topic'
  readonly topic: string
  readonly subscribers: number
  /** The first presence members, with their data as JSON. */
  readonly members: readonly { readonly id: string; readonly data: string }[]
  readonly memberCount: number
  /** Absent for a topic without history. */
  readonly history?:
    | { readonly first: number; readonly last: number; readonly epoch: string }
    | { readonly error: string }
    | undefined
}

const CONNECTION = object({
  id: text(256),
  process: text(256),
  user: optional(text(256)),
  since: number,
  remoteAddress: optional(text(256)),
  route: text(8192),
  subprotocol: text(8192),
  httpVersion: text(8),
  topics: array(text(1024)),
  latency: optional(number),
  bufferedAmount: count,
  messagesReceived: count,
  messagesSent: count,
  bytesReceived: count,
  bytesSent: count
})

/** The schema of {@link ConsoleMessage}. */
export const SEND: Schema = {
  anyOf: [
    object({
      type: oneOf('summary'),
      interval: count,
      process: text(256),
      processes: array(object({ process: text(256), connections: count, report: optional(REPORT) })),
      isComplete: { type: 'boolean' }
    }),
    object({
      type: oneOf('list'),
      connections: array(CONNECTION),
      total: count,
      isComplete: { type: 'boolean' },
      sort: oneOf('since', 'traffic', 'buffered')
    }),
    object({
      type: oneOf('topic'),
      topic: text(1024),
      subscribers: count,
      members: array(object({ id: text(256), data: text(65_536) })),
      memberCount: count,
      history: optional({ type: 'object' })
    }),
    object({ type: oneOf('closed'), connections: count, isComplete: { type: 'boolean' } })
  ]
}
