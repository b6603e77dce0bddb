import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { type PendingAppend, takeBatch } from '../append-batch.js'
import {
  type AppendOptions,
  type HistoryPage,
  ID_LIFETIME,
  type Position,
  type ReadOptions,
  type StoredMessage
} from '../broker.js'
import { InvalidStreamError, JetStreamUnavailableError, UnknownRecordError } from '../error.js'
import type { JetStreamManager, StoredRecord, StreamConfig, StreamInfo } from './jetstream.js'
import {
  decodeRecord,
  encodeRecord,
  firstOffset,
  type HistoryRecord,
  type HistoryState,
  numbered
} from './record.js'

// The histories of all channels are in one stream, and each channel is a subject of it. The sequence numbers of a stream
// count the messages of all its subjects, so the offset of a channel is in its records. A record is stored only if the
// last record of its subject is the one that its writer knows (compare and set), so offsets have no gaps and no duplicates,
// whatever processes append at once. Messages that wait meanwhile are stored together, in the next record.

/** Milliseconds for which the stream keeps a record, and with it the position of a channel: 30 days. */
const MAX_AGE = 30 * 86_400_000

/** The maximum of messages and bytes in a record with several messages. */
const MAX_MESSAGES = 256
const MAX_BYTES = 64 * 1024

/** The maximum of channels whose last record a process remembers. */
const MAX_CHANNELS = 2000

/** Milliseconds for which the comparison of the clocks holds. */
const CLOCK_LIFETIME = 60_000

/** Consecutive records of one process, after which it lets others go first. */
const MAX_WINS = 8

/** Milliseconds after a conflict during which a process leaves time for others after each record. */
const CONTENTION = 1000

/** Messages that are dropped at once when a history exceeds its size: an eighth of the size, but at least this many. */
const MIN_TRIM = 16

const NANOSECONDS = 1_000_000

/** Bytes of the headers of a record, besides the name of the stream. */
const HEADERS_SIZE = 256

/** The codes of errors of JetStream. */
const WRONG_LAST_SEQUENCE: readonly unknown[] = [10071, 10164]
const STREAM_NOT_FOUND = 10059
const STREAM_NAME_IN_USE = 10058

/** A record with its place in the stream. */
interface Stored extends HistoryRecord {
  readonly seq: number
  /** When the engine stored it, in milliseconds of the engine's clock. */
  readonly time: number
}

/** The last record of a channel. */
interface Last extends HistoryState {
  readonly seq: number
  /** When its messages expire, in the time of `performance.now()`. */
  readonly expiresAt: number
}

/** The place of a record, in the stream in which its epoch began. */
interface Mark {
  readonly epoch: string
  /** Of the first message of the record. */
  readonly offset: number
  readonly seq: number
}

/** A channel to which this process appends. */
interface Channel {
  readonly subject: string
  readonly pending: PendingAppend[]
  /** The last record that the writer knows. It checks this with each record. */
  last: Last | undefined
  isWriting: boolean
  /** Records of the history, oldest first, at some distance. Those before a record whose messages are gone can be purged. */
  readonly marks: Mark[]
  /** Records since another process was first. */
  wins: number
  /** When another process was first. */
  conflictAt: number
}

export interface NatsHistorySettings {
  readonly manager: JetStreamManager
  readonly stream: string
  readonly storage: 'file' | 'memory'
  readonly replicas: number
  /** The beginning of all subjects. */
  readonly prefix: string
  /** Milliseconds. */
  readonly timeout: number
  /** The maximum size of a message of the engine. */
  readonly maxPayload: () => number
}

/** The histories of channels in a stream of JetStream. */
export class NatsHistory {
  readonly #settings: NatsHistorySettings
  /** By subject, in the order of the last append. */
  readonly #channels = new Map<string, Channel>()
  /** Reject the calls that wait for the engine. */
  readonly #interrupts = new Set<(error: Error) => void>()
  #interruptions = 0
  /** When the stream was created. */
  #created: string | undefined
  /** The engine's clock minus `performance.now()`. */
  #clock: Promise<number> | undefined
  #clockAt = 0
  /** Milliseconds between a record and its confirmation, a moving average. */
  #roundTrip = 1

  constructor(settings: NatsHistorySettings) {
    this.#settings = settings
  }

  /**
   * Creates the stream unless it exists.
   * @throws `FST_UPGRADE_JETSTREAM_UNAVAILABLE` or `FST_UPGRADE_INVALID_STREAM`
   */
  async open(): Promise<void> {
    const { streams } = this.#settings.manager
    const wanted = this.#config()
    const { name } = wanted
    try {
      const found = await streams.info(name).catch(async error => {
        if (codeOf(error) !== STREAM_NOT_FOUND) throw error
        return await streams.add(wanted).catch(refusal => {
          // Another process was faster.
          if (codeOf(refusal) !== STREAM_NAME_IN_USE) throw refusal
          return streams.info(name)
        })
      })
      checkConfig(found.config, wanted)
      this.#onStream(found.created)
    } catch (error) {
      if (error instanceof InvalidStreamError) throw error
      const unavailable = new JetStreamUnavailableError(name, messageOf(error))
      unavailable.cause = error
      throw unavailable
    }
  }

  /** The numbers of another stream begin again: a record of it may have the number of the last one that is remembered. */
  #onStream(created: string): void {
    if (created === this.#created) return
    this.#created = created
    for (const channel of this.#channels.values()) channel.last = undefined
  }

  #config(): StreamConfig {
    const { stream, storage, replicas, prefix } = this.#settings
    const subject = `${prefix}history.*`
    return {
      name: stream,
      subjects: [subject],
      storage,
      num_replicas: replicas,
      max_age: MAX_AGE * NANOSECONDS,
      duplicate_window: ID_LIFETIME * NANOSECONDS,
      // Only what is stored is delivered, in the order in which it is stored.
      republish: { src: subject, dest: `${prefix}{{wildcard(1)}}` }
    }
  }

  /** @param token the channel in the form of a token. */
  #subjectOf(token: string): string {
    return `${this.#settings.prefix}history.${token}`
  }

  // ---- calls

  append(token: string, message: Uint8Array, options: AppendOptions): Promise<Position> {
    const channel = this.#channelOf(this.#subjectOf(token))
    return new Promise((resolve, reject) => {
      channel.pending.push({ message, options, resolve, reject })
      if (!channel.isWriting) void this.#write(channel)
    })
  }

  async read(token: string, { since, limit, reverse = false }: ReadOptions): Promise<HistoryPage> {
    const subject = this.#subjectOf(token)
    const last = await this.#call(() => this.#open(subject))
    const { epoch, offset } = last
    const position = { epoch, offset }
    const isExpired = (await this.#expiryOf(last)) <= performance.now()
    const none = { messages: [], position }
    if (limit === 0 || isExpired || last.floor > offset) return none
    if (reverse) {
      const end = Math.min(offset, (since ?? Number.POSITIVE_INFINITY) - 1)
      const messages = await this.#range(subject, Math.max(last.floor, end - limit + 1), end, last)
      return { messages: messages.filter(message => message.offset <= end).reverse(), position }
    }
    const start = Math.max(last.floor, (since ?? 0) + 1)
    return { messages: await this.#range(subject, start, start + limit - 1, last), position }
  }

  async remove(token: string): Promise<void> {
    const subject = this.#subjectOf(token)
    await this.#call(async () => {
      for (;;) {
        const last = await this.#lastOf(subject)
        if (last === undefined || (await this.#clear(subject, last))) return
      }
    })
  }

  /** The engine has delivered a record. */
  onRecord(token: string, seq: number, record: HistoryRecord): void {
    const channel = this.#channels.get(this.#subjectOf(token))
    if (channel?.last === undefined) return
    const { epoch, offset, floor, ttl } = record
    // Another epoch may be in another stream, whose numbers begin again.
    if (epoch !== channel.last.epoch) channel.last = undefined
    else if (seq > channel.last.seq)
      channel.last = { seq, epoch, offset, floor, ttl, expiresAt: performance.now() + ttl }
  }

  /** Removes the messages that this process has appended and that have expired, and forgets their channels. */
  sweep(): void {
    const now = performance.now()
    const expired: (readonly [string, Last])[] = []
    for (const [subject, { last, isWriting }] of this.#channels) {
      if (isWriting || (last !== undefined && last.expiresAt > now)) continue
      this.#channels.delete(subject)
      if (last !== undefined) expired.push([subject, last])
    }
    void this.#clearAll(expired)
  }

  /** One after the other, as there may be many. If another process has appended since, nothing is removed. */
  async #clearAll(expired: readonly (readonly [string, Last])[]): Promise<void> {
    for (const [subject, last] of expired) await this.#clear(subject, last).catch(() => {})
  }

  /** Rejects all calls that wait for the engine, or for calls before them. */
  interrupt(error: Error): void {
    this.#clock = undefined
    this.#interruptions++
    for (const reject of this.#interrupts) reject(error)
    for (const { pending } of this.#channels.values())
      for (const { reject } of pending.splice(0)) reject(error)
  }

  /** Makes calls of the engine, and again when its stream was lost. */
  #call<T>(call: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#interrupts.add(reject)
      this.#withStream(call)
        .then(resolve, reject)
        .finally(() => this.#interrupts.delete(reject))
    })
  }

  async #withStream<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call()
    } catch (error) {
      // A message whose subject belongs to no stream has no responder, which the client reports with this name.
      const isLost = codeOf(error) === STREAM_NOT_FOUND || nameOf(error) === 'JetStreamNotEnabled'
      if (!isLost) throw error
      await this.open()
      return await call()
    }
  }

  // ---- writing

  #channelOf(subject: string): Channel {
    const channel = this.#channels.get(subject) ?? {
      subject,
      pending: [],
      last: undefined,
      isWriting: false,
      marks: [],
      wins: 0,
      conflictAt: Number.NEGATIVE_INFINITY
    }
    this.#channels.delete(subject)
    this.#forgetOldest(MAX_CHANNELS - 1)
    this.#channels.set(subject, channel)
    return channel
  }

  /** Keeps the channels that are being written: a second writer would change the order of the messages. */
  #forgetOldest(max: number): void {
    for (const [oldest, { isWriting }] of this.#channels) {
      if (isWriting || this.#channels.size <= max) return
      this.#channels.delete(oldest)
    }
  }

  async #write(channel: Channel): Promise<void> {
    channel.isWriting = true
    // Let the other messages of this turn come into the first record.
    await Promise.resolve()
    while (channel.pending.length > 0) {
      const maxBytes = Math.min(MAX_BYTES, this.#settings.maxPayload() / 2)
      const batch = takeBatch(channel.pending, MAX_MESSAGES, maxBytes)
      try {
        const { epoch, first } = await this.#call(() => this.#writeBatch(channel, batch))
        for (const [i, { resolve }] of batch.entries()) resolve({ offset: first + i, epoch })
      } catch (error) {
        // The record may have been stored.
        channel.last = undefined
        for (const { reject } of batch) reject(error)
      }
      if (channel.pending.length > 0) await this.#giveWay(channel)
    }
    channel.isWriting = false
    this.#forgetOldest(MAX_CHANNELS)
  }

  /**
   * Stores the messages in one record. Resolves with the offset of the first; with 0 for a known id whose message is gone.
   */
  async #writeBatch(
    channel: Channel,
    batch: readonly PendingAppend[]
  ): Promise<{ readonly epoch: string; readonly first: number }> {
    const [{ options }] = batch
    const { size, ttl, id } = options
    const messages = batch.map(({ message }) => message)
    const deadline = performance.now() + this.#settings.timeout
    const interruptions = this.#interruptions
    for (;;) {
      const last = channel.last ?? (await this.#load(channel, size))
      const { epoch } = last
      const offset = last.offset + messages.length
      if (!Number.isSafeInteger(offset)) throw new RangeError('the history has used all its offsets')
      const oldest = last.expiresAt <= performance.now() ? last.offset + 1 : last.floor
      const floor = Math.max(oldest, offset - size + 1)
      const record = { epoch, offset, floor, ttl, messages }
      const sentAt = performance.now()
      const ack = await this.#store(channel.subject, record, last.seq, id && messageId(epoch, id))
      if (ack === undefined) {
        if (channel.last === last) channel.last = undefined
        channel.conflictAt = performance.now()
        channel.wins = 0
        if (performance.now() > deadline) throw new Error('other processes were always faster')
        // Its messages were rejected, and later ones may be stored already.
        if (interruptions !== this.#interruptions) throw new Error('interrupted')
        continue
      }
      const { seq, duplicate } = ack
      if (duplicate) {
        const known = await this.#get({ seq })
        // With its messages, a subject may have lost its epoch.
        if (known === undefined && (await this.#load(channel, size)).epoch !== epoch) continue
        return { epoch, first: known?.offset ?? 0 }
      }
      const now = performance.now()
      this.#roundTrip += (now - sentAt - this.#roundTrip) / 8
      // The record may have arrived before its confirmation, and others after it.
      if (channel.last === last) channel.last = { seq, epoch, offset, floor, ttl, expiresAt: now + ttl }
      channel.wins++
      this.#trim(channel, { epoch, offset: last.offset + 1, seq }, floor, size)
      return { epoch, first: last.offset + 1 }
    }
  }

  /** The last record of the channel, which another process may have written. */
  async #load(channel: Channel, size: number): Promise<Last> {
    const record = await this.#open(channel.subject)
    const { seq, epoch, offset, floor, ttl } = record
    const expiresAt = await this.#expiryOf(record)
    channel.last = { seq, epoch, offset, floor, ttl, expiresAt }
    if (channel.marks.at(-1)?.epoch !== epoch) {
      channel.marks.splice(0, channel.marks.length, { epoch, offset: firstOffset(record), seq })
      // Older records than those of this process.
      void this.#purge(channel.subject, { keep: size })
    }
    return channel.last
  }

  /** Drops records whose messages are gone, several at a time. */
  #trim(channel: Channel, mark: Mark, floor: number, size: number): void {
    const { marks, subject } = channel
    const newest = marks.at(-1)
    if (newest === undefined || mark.offset - newest.offset >= Math.max(size / 8, MIN_TRIM)) marks.push(mark)
    let gone = 0
    while (gone + 1 < marks.length && marks[gone + 1].offset <= floor) gone++
    if (gone === 0) return
    marks.splice(0, gone)
    void this.#purge(subject, { seq: marks[0].seq })
  }

  /** Records that remain are not read: the floor is in the records. */
  async #purge(subject: string, range: { readonly seq: number } | { readonly keep: number }): Promise<void> {
    const { manager, stream } = this.#settings
    await manager.streams.purge(stream, { filter: subject, ...range }).catch(() => {})
  }

  /** Between two records: a process that has just stored one knows the last one first, and would always win. */
  async #giveWay(channel: Channel): Promise<void> {
    const isContended = performance.now() - channel.conflictAt < CONTENTION
    if (!isContended && channel.wins % MAX_WINS !== 0) return
    await sleep(Math.random() * 3 * this.#roundTrip)
  }

  /**
   * Stores a record if `expected` is the last one of its subject, 0 for none.
   * @returns undefined if another one is.
   */
  async #store(
    subject: string,
    record: HistoryRecord,
    expected: number,
    id?: string
  ): Promise<{ readonly seq: number; readonly duplicate: boolean } | undefined> {
    const { manager, stream, timeout, maxPayload } = this.#settings
    const data = encodeRecord(record)
    // The client does not count the headers, and the engine ends the connection when they exceed the limit.
    if (data.length + HEADERS_SIZE + stream.length > maxPayload()) {
      throw new RangeError(
        `a record of ${data.length} bytes exceeds the max_payload of NATS, ${maxPayload()}`
      )
    }
    try {
      return await manager.jetstream().publish(subject, data, {
        ...(id === undefined ? {} : { msgID: id }),
        expect: { streamName: stream, lastSubjectSequence: expected },
        timeout
      })
    } catch (error) {
      if (WRONG_LAST_SEQUENCE.includes(codeOf(error))) return undefined
      throw error
    }
  }

  /** @returns false when another process was faster. */
  async #clear(subject: string, { seq, epoch, offset, floor }: Last | Stored): Promise<boolean> {
    if (floor > offset) return true
    const empty = { epoch, offset, floor: offset + 1, ttl: 0, messages: [] }
    const ack = await this.#store(subject, empty, seq)
    if (ack === undefined) return false
    const { manager, stream } = this.#settings
    await manager.streams.purge(stream, { filter: subject, seq: ack.seq })
    return true
  }

  // ---- reading

  /** The last record of a subject, from the leader of the stream: other replicas may be behind. */
  async #lastOf(subject: string): Promise<Stored | undefined> {
    return await this.#get({ last_by_subj: subject })
  }

  /** The same. The history begins with it when there is none. */
  async #open(subject: string): Promise<Stored> {
    for (;;) {
      const last = await this.#lastOf(subject)
      if (last !== undefined) return last
      const epoch = randomBytes(8).toString('hex')
      await this.#store(subject, { epoch, offset: 0, floor: 1, ttl: 0, messages: [] }, 0)
    }
  }

  async #get(
    query:
      | { readonly last_by_subj: string }
      | { readonly seq: number }
      | { readonly seq: number; readonly next_by_subj: string }
  ): Promise<Stored | undefined> {
    const { manager, stream } = this.#settings
    const found = await manager.streams.getMessage(stream, query)
    return found === null ? undefined : storedOf(found)
  }

  /**
   * The messages from the offset `start` on, or from the first after it that there is, as many as fit between `start` and
   * `end`. They have no gap.
   */
  async #range(subject: string, start: number, end: number, last: Stored): Promise<StoredMessage[]> {
    const limit = end - start + 1
    if (limit <= 0 || start > last.offset) return []
    return await this.#call(async () => {
      const messages: StoredMessage[] = []
      const first = await this.#locate(subject, start, last)
      const from = Math.max(start, firstOffset(first))
      const take = (record: HistoryRecord): boolean => {
        if (record.epoch !== last.epoch) return false
        for (const entry of numbered(record)) {
          if (entry.offset < from) continue
          if (entry.offset !== from + messages.length || messages.length === limit) return false
          messages.push(entry)
        }
        return messages.length < limit
      }
      if (take(first) && first.seq < last.seq) {
        const takeNext = (record: Stored): boolean => take(record) && record.seq < last.seq
        await this.#follow(subject, first.seq + 1, limit - messages.length, takeNext)
      }
      return messages
    })
  }

  /** Finds the record with the message of an offset, or else the next one, by interpolation. */
  async #locate(subject: string, offset: number, last: Stored): Promise<Stored> {
    let after = last
    if (offset >= firstOffset(last)) return last
    let before = await this.#get({ seq: 1, next_by_subj: subject })
    if (before === undefined || before.seq >= last.seq) return last
    if (before.offset >= offset) return before
    // No record of the subject is between `end` and the one after.
    let end = after.seq
    for (let steps = 0; before.seq + 1 < end; steps++) {
      // Every other step halves the range, in case the records are not spread evenly.
      const part = steps % 2 === 1 ? 0.5 : (offset - before.offset - 1) / (firstOffset(after) - before.offset)
      const guess: number =
        before.seq + 1 + Math.floor((end - before.seq - 1) * Math.min(Math.max(part, 0), 0.999))
      const found: Stored | undefined = await this.#get({ seq: guess, next_by_subj: subject })
      if (found === undefined || found.seq >= end) end = guess
      else if (found.offset < offset) before = found
      else if (firstOffset(found) <= offset) return found
      else {
        after = found
        end = guess
      }
    }
    return after
  }

  /** Reads the records from a place in the stream on, until `take` returns false. */
  async #follow(
    subject: string,
    seq: number,
    limit: number,
    take: (record: Stored) => boolean
  ): Promise<void> {
    const { manager, stream, timeout } = this.#settings
    const { consumers } = manager
    const info = await consumers.add(stream, {
      deliver_policy: 'by_start_sequence',
      opt_start_seq: seq,
      ack_policy: 'none',
      filter_subject: subject,
      mem_storage: true,
      num_replicas: 1,
      inactive_threshold: 2 * timeout * NANOSECONDS
    })
    try {
      const consumer = manager.jetstream().consumers.getConsumerFromInfo(info)
      const records = await consumer.fetch({ max_messages: limit, expires: Math.max(timeout, 1000) })
      for await (const record of records) if (!take(storedOf(record))) break
    } finally {
      consumers.delete(stream, info.name).catch(() => {})
    }
  }

  // ---- time

  /** When the messages of a record expire, in the time of `performance.now()`. The clock of this machine may jump. */
  async #expiryOf({ time, ttl, floor, offset }: Stored): Promise<number> {
    if (floor > offset) return Number.POSITIVE_INFINITY
    const now = performance.now()
    if (this.#clock === undefined || now - this.#clockAt > CLOCK_LIFETIME) {
      this.#clockAt = now
      this.#clock = this.#compareClocks()
    }
    const clock = this.#clock
    try {
      return time - (await this.#call(() => clock)) + ttl
    } catch (error) {
      if (this.#clock === clock) this.#clock = undefined
      throw error
    }
  }

  /** The engine says the time only with what it stores. */
  async #compareClocks(): Promise<number> {
    const { manager, stream, prefix } = this.#settings
    // No channel has this token: its length is impossible in base64url.
    const { seq } = await manager.jetstream().publish(`${prefix}history.clock`, new Uint8Array())
    const found = await manager.streams.getMessage(stream, { seq })
    const now = performance.now()
    await manager.streams.deleteMessage(stream, seq, false)
    // Removed with all messages of the stream: the next call compares again.
    if (found === null) throw new Error('NATS does not say the time')
    return found.time.getTime() - now
  }
}

/** Ids belong to an epoch, as positions do. As a header they must not have line breaks or spaces at their ends. */
function messageId(epoch: string, id: string): string {
  return createHash('sha256').update(`${epoch}:${id}`).digest('base64url')
}

function storedOf({ seq, data, time }: StoredRecord & { readonly seq: number }): Stored {
  const record = decodeRecord(data)
  if (record === undefined) throw new UnknownRecordError()
  return { ...record, seq, time: time.getTime() }
}

/** @throws `FST_UPGRADE_INVALID_STREAM` when messages would be lost without notice. */
function checkConfig(
  found: StreamInfo['config'],
  { name, subjects, republish, duplicate_window }: StreamConfig
): void {
  const [subject] = subjects
  // With another policy, JetStream removes messages that were acknowledged, or that no consumer wants.
  if (found.retention !== 'limits') throw new InvalidStreamError(name, 'retention', 'limits')
  if (found.deny_purge === true) throw new InvalidStreamError(name, 'deny_purge', 'false')
  if (!found.subjects.includes(subject)) throw new InvalidStreamError(name, 'subjects', subject)
  const { src, dest } = found.republish ?? {}
  if (src !== republish?.src || dest !== republish?.dest) {
    throw new InvalidStreamError(name, 'republish', `from ${republish?.src} to ${republish?.dest}`)
  }
  if (Number(found.duplicate_window) < Number(duplicate_window)) {
    throw new InvalidStreamError(name, 'duplicate_window', 'at least five minutes')
  }
}

function codeOf(error: unknown): unknown {
  return Reflect.get(Object(error), 'code')
}

function nameOf(error: unknown): unknown {
  return Reflect.get(Object(error), 'name')
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
