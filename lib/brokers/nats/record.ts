import type { StoredMessage } from '../broker.js'

// A stream stores a record in one step: the messages that were appended together, and the state of their history.

/** The first byte of a record, for changes of the format. */
const VERSION = 1
const EPOCH_SIZE = 8
const EPOCH = 1
const OFFSET = EPOCH + EPOCH_SIZE
const FLOOR = OFFSET + 8
const TTL = FLOOR + 8
const HEADER_SIZE = TTL + 8
/** Before each message. */
const LENGTH_SIZE = 4

/** The state of a history after a record. */
export interface HistoryState {
  /** 16 hexadecimal digits. */
  readonly epoch: string
  /** Of the last message that was appended. */
  readonly offset: number
  /** The offset of the oldest message that is kept. Beyond `offset` when none is. */
  readonly floor: number
  /** Milliseconds after the record during which the messages are kept. */
  readonly ttl: number
}

export interface HistoryRecord extends HistoryState {
  /** The messages of the record. The last one has the offset of the state. */
  readonly messages: readonly Uint8Array[]
}

/** A number of 64 bits counts exactly up to 2^53. */
export function encodeRecord({ epoch, offset, floor, ttl, messages }: HistoryRecord): Buffer {
  let size = HEADER_SIZE
  for (const message of messages) size += LENGTH_SIZE + message.length
  const bytes = Buffer.allocUnsafe(size)
  bytes[0] = VERSION
  bytes.write(epoch, EPOCH, EPOCH_SIZE, 'hex')
  bytes.writeDoubleBE(offset, OFFSET)
  bytes.writeDoubleBE(floor, FLOOR)
  bytes.writeDoubleBE(ttl, TTL)
  let end = HEADER_SIZE
  for (const message of messages) {
    bytes.writeUInt32BE(message.length, end)
    bytes.set(message, end + LENGTH_SIZE)
    end += LENGTH_SIZE + message.length
  }
  return bytes
}

/** @returns undefined for bytes that {@link encodeRecord} did not write. */
export function decodeRecord(data: Uint8Array): HistoryRecord | undefined {
  if (data.length < HEADER_SIZE || data[0] !== VERSION) return undefined
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.length)
  const offset = bytes.readDoubleBE(OFFSET)
  const floor = bytes.readDoubleBE(FLOOR)
  const ttl = bytes.readDoubleBE(TTL)
  const messages: Uint8Array[] = []
  for (let end = HEADER_SIZE; end < bytes.length; ) {
    if (end + LENGTH_SIZE > bytes.length) return undefined
    const start = end + LENGTH_SIZE
    end = start + bytes.readUInt32BE(end)
    if (end > bytes.length) return undefined
    messages.push(bytes.subarray(start, end))
  }
  const isValid =
    Number.isSafeInteger(offset) && offset >= messages.length && Number.isInteger(floor) && ttl >= 0
  if (!isValid) return undefined
  return { epoch: bytes.toString('hex', EPOCH, OFFSET), offset, floor, ttl, messages }
}

/** The offset of the first message. That of the next record when this one has no messages. */
export function firstOffset({ offset, messages }: HistoryRecord): number {
  return offset - messages.length + 1
}

/** The messages with their offsets. */
export function* numbered(record: HistoryRecord): Iterable<StoredMessage> {
  let offset = firstOffset(record)
  for (const message of record.messages) yield { offset: offset++, message }
}
