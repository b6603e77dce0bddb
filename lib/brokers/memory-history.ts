import { randomBytes } from 'node:crypto'
import {
  type AppendOptions,
  type HistoryPage,
  ID_LIFETIME,
  type Position,
  type ReadOptions,
  type StoredMessage
} from './broker.js'
import { HistoryFullError } from './error.js'

/** The bounds of a {@link MemoryHistory}, in bytes. */
export interface MemoryHistoryLimits {
  /** Of all channels, their names and positions included. */
  readonly maxBytes: number
  /** Of the messages of each channel. */
  readonly maxChannelBytes: number
}

/** Bytes that a message, an id and a channel count besides their contents. */
const MESSAGE_COST = 128
const ID_COST = 128
const CHANNEL_COST = 1024

interface KnownId {
  readonly offset: number
  readonly expiresAt: number
}

interface Channel {
  readonly name: string
  readonly epoch: string
  /** Of the last message. */
  offset: number
  /** By offset, in order and without gaps: the last one is `offset`. */
  readonly messages: Map<number, Uint8Array>
  /** Of the messages. */
  bytes: number
  /** When the messages expire. */
  expiresAt: number
  /** In the order in which they expire. */
  readonly ids: Map<string, KnownId>
}

/** The result of {@link MemoryHistory.append}. */
export interface Appended {
  readonly position: Position
  /** False when a message with the same id was appended before. */
  readonly isNew: boolean
}

/**
 * The histories of the channels of one process. When they exceed their limit, the channels to which nothing was appended for
 * the longest time are cleared first.
 */
export class MemoryHistory {
  readonly #limits: MemoryHistoryLimits
  /** By name, in the order of the last append. */
  readonly #channels = new Map<string, Channel>()
  /** The channels with messages or ids. */
  readonly #filled = new Map<string, Channel>()
  #bytes = 0

  constructor(limits: MemoryHistoryLimits) {
    this.#limits = limits
  }

  /** @throws {RangeError} `FST_UPGRADE_HISTORY_FULL` */
  append(name: string, message: Uint8Array, { size, ttl, id }: AppendOptions): Appended {
    const { maxChannelBytes } = this.#limits
    const cost = message.length + MESSAGE_COST
    if (cost > maxChannelBytes) throw new HistoryFullError(message.length, maxChannelBytes)
    const channel = this.#open(name)
    const { epoch } = channel
    const known = id === undefined ? undefined : channel.ids.get(id)
    if (known !== undefined) return { position: { offset: known.offset, epoch }, isNew: false }
    channel.offset++
    channel.messages.set(channel.offset, message)
    channel.bytes += cost
    this.#bytes += cost
    const now = performance.now()
    channel.expiresAt = now + ttl
    if (id !== undefined) {
      channel.ids.set(id, { offset: channel.offset, expiresAt: now + ID_LIFETIME })
      this.#bytes += costOfId(id)
    }
    for (const channels of [this.#channels, this.#filled]) {
      channels.delete(name)
      channels.set(name, channel)
    }
    while (channel.messages.size > size || channel.bytes > maxChannelBytes) this.#dropOldest(channel)
    this.#makeRoom(channel)
    return { position: { offset: channel.offset, epoch }, isNew: true }
  }

  read(name: string, { since, limit, reverse = false }: ReadOptions): HistoryPage {
    const { offset: last, epoch, messages: kept } = this.#open(name)
    const messages: StoredMessage[] = []
    const step = reverse ? -1 : 1
    let offset = reverse
      ? Math.min(last, (since ?? Number.POSITIVE_INFINITY) - 1)
      : Math.max(last - kept.size, since ?? 0) + 1
    for (; messages.length < limit; offset += step) {
      const message = kept.get(offset)
      if (message === undefined) break
      messages.push({ offset, message })
    }
    return { messages, position: { offset: last, epoch } }
  }

  remove(name: string): void {
    const channel = this.#channels.get(name)
    if (channel !== undefined) this.#dropMessages(channel)
  }

  /** @returns the channel, without the messages and ids that have expired. */
  #open(name: string): Channel {
    const now = performance.now()
    const channel = this.#channels.get(name)
    if (channel === undefined) return this.#create(name, now)
    if (channel.expiresAt <= now) this.#dropMessages(channel)
    for (const [id, { expiresAt }] of channel.ids) {
      if (expiresAt > now) break
      this.#dropId(channel, id)
    }
    return channel
  }

  #create(name: string, now: number): Channel {
    const epoch = randomBytes(8).toString('hex')
    const channel: Channel = {
      name,
      epoch,
      offset: 0,
      messages: new Map(),
      bytes: 0,
      expiresAt: now,
      ids: new Map()
    }
    this.#channels.set(name, channel)
    this.#bytes += costOfChannel(name)
    this.#makeRoom(channel)
    return channel
  }

  /** @param last the last of all channels. */
  #makeRoom(last: Channel): void {
    const { maxBytes } = this.#limits
    for (const channel of this.#filled.values()) {
      if (this.#bytes <= maxBytes) return
      if (channel !== last) this.#clear(channel)
    }
    // Without its position, a channel begins a new epoch.
    for (const channel of this.#channels.values()) {
      if (this.#bytes <= maxBytes) return
      if (channel !== last) this.#forget(channel)
    }
    while (this.#bytes > maxBytes && last.messages.size > 0) this.#dropOldest(last)
    for (const id of last.ids.keys()) {
      if (this.#bytes <= maxBytes) return
      this.#dropId(last, id)
    }
  }

  #forget({ name }: Channel): void {
    this.#channels.delete(name)
    this.#bytes -= costOfChannel(name)
  }

  #clear(channel: Channel): void {
    this.#dropMessages(channel)
    for (const id of channel.ids.keys()) this.#dropId(channel, id)
    this.#filled.delete(channel.name)
  }

  #dropMessages(channel: Channel): void {
    this.#bytes -= channel.bytes
    channel.bytes = 0
    channel.messages.clear()
  }

  #dropOldest(channel: Channel): void {
    for (const [offset, message] of channel.messages) {
      const cost = message.length + MESSAGE_COST
      channel.messages.delete(offset)
      channel.bytes -= cost
      this.#bytes -= cost
      break
    }
  }

  #dropId(channel: Channel, id: string): void {
    channel.ids.delete(id)
    this.#bytes -= costOfId(id)
  }
}

/** A character takes at most two bytes. */
function costOfId(id: string): number {
  return 2 * id.length + ID_COST
}

function costOfChannel(name: string): number {
  return 2 * name.length + CHANNEL_COST
}
