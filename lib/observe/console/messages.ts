import {
  array,
  boolean,
  count,
  type Infer,
  number,
  object,
  oneOf,
  optional,
  record,
  text,
  union
} from './schema.js'

// The messages between the page and the console, and those between the consoles of all processes.

const SORT = oneOf('since', 'traffic', 'buffered')

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
  sort: SORT,
  limit: count,
  user: optional(text(256)),
  topic: optional(text(1024)),
  route: optional(text(1024)),
  remoteAddress: optional(text(256))
})

/** The messages of the page. */
export const RECEIVE = union(
  /** Which connections to show from now on. */
  LIST,
  /** Which topic to show in detail from now on; none without a name. */
  object({ type: oneOf('topic'), topic: optional(text(1024)) }),
  object({ type: oneOf('close'), connection: text(256) }),
  object({ type: oneOf('closeUser'), user: text(256) })
)

export type ListRequest = Infer<typeof LIST>
export type PageMessage = Infer<typeof RECEIVE>

/** A process in a summary. One without a console has no report. */
const PROCESS = object({ process: text(256), connections: count, report: optional(REPORT) })

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

/** A topic in all processes. */
const TOPIC_DETAIL = object({
  type: oneOf('topic'),
  topic: text(1024),
  subscribers: count,
  /** The first presence members, with their data as JSON. */
  members: array(object({ id: text(256), data: text(65_536) })),
  memberCount: count,
  /** Absent for a topic without history. */
  history: optional(
    union(object({ first: count, last: count, epoch: text(256) }), object({ error: text(65_536) }))
  )
})

/** The messages for the page. */
export const SEND = union(
  object({
    type: oneOf('summary'),
    /** Milliseconds until the next. */
    interval: count,
    /** The process with the page. */
    process: text(256),
    processes: array(PROCESS),
    /** Whether all known processes have answered. */
    isComplete: boolean
  }),
  object({
    type: oneOf('list'),
    connections: array(CONNECTION),
    total: count,
    isComplete: boolean,
    sort: SORT
  }),
  TOPIC_DETAIL,
  object({ type: oneOf('closed'), connections: count, isComplete: boolean })
)

export type ProcessSummary = Infer<typeof PROCESS>
export type ConsoleMessage = Infer<typeof SEND>
export type TopicDetail = Infer<typeof TOPIC_DETAIL>
