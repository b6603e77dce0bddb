import { isAnyArrayBuffer } from 'node:util/types'
import { MAX_CONTROL_PAYLOAD } from '../protocol/close-code.js'
import { InvalidDataError, PingTooLongError } from './error.js'
import { isThenable } from './events.js'

// The codec: it turns the bytes of a message into the value for the application, and back. Listeners, the iterator, the
// stream and all ways to send use it.

/** A message as the iterator returns it: text as a string, a binary message as a Buffer. */
export type Message = string | Buffer

/** The first argument of a `message` listener: text is a Buffer too, as in `ws`, unless a schema makes a value of it. */
export type ListenerData<Receive> = [Message, Receive] extends [Receive, Message] ? Buffer : Receive

/** The `data` of a message event of `addEventListener`: text as a string, binary messages as `binaryType` says. */
export type EventData<Receive> = [Message, Receive] extends [Receive, Message]
  ? string | Buffer | ArrayBuffer | Buffer[]
  : Receive

/** Data that can be sent as a message: text, a number as its text, or bytes. */
export type SendData = string | number | ArrayBufferView | ArrayBufferLike

export interface SendOptions {
  /** Whether the message is binary. Default: false for strings, true for everything else. */
  readonly binary?: boolean | undefined
  /** Whether this is the last fragment of the message. Default: true. */
  readonly fin?: boolean | undefined
  /** Whether the message may be compressed, where `permessage-deflate` is in use. Default: true. */
  readonly compress?: boolean | undefined
  /** Accepted from code written for `ws`, without effect: the role decides whether frames are masked. */
  readonly mask?: boolean | undefined
}

export type BinaryType = 'nodebuffer' | 'arraybuffer' | 'fragments'

export const BINARY_TYPES: readonly BinaryType[] = ['nodebuffer', 'arraybuffer', 'fragments']

/**
 * The value of a message for the iterator, and for a stream in object mode.
 * @throws {RangeError} for text that is longer than a string can be.
 */
export function decode(data: Buffer, isBinary: boolean): Message {
  return isBinary ? data : data.toString()
}

/** The first argument of a `message` listener. Text is a Buffer there, as in `ws`. */
export function decodeForListener(data: Buffer, isBinary: boolean, type: BinaryType): unknown {
  if (!isBinary || type === 'nodebuffer') return data
  return type === 'arraybuffer' ? toArrayBuffer(data) : [data]
}

/** A copy of `data` that owns its memory. */
function toArrayBuffer(data: Buffer): ArrayBuffer {
  const copy = new ArrayBuffer(data.length)
  new Uint8Array(copy).set(data)
  return copy
}

/**
 * The bytes or the text of a message.
 * @throws {InvalidDataError} for anything else: other libraries have sent uninitialised memory because they guessed.
 */
export function encode(data: unknown): string | Uint8Array {
  if (typeof data === 'string' || data instanceof Uint8Array) return data
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  if (isAnyArrayBuffer(data)) return new Uint8Array(data)
  if (typeof data === 'number') return String(data)
  throw invalidData(data)
}

function invalidData(data: unknown): Error {
  const bytes = 'a string, an ArrayBuffer or a view of one'
  if (typeof data !== 'object' || data === null) {
    return new InvalidDataError(data === null ? 'null' : typeof data, bytes)
  }
  if (data instanceof Blob) return new InvalidDataError('Blob', 'await blob.arrayBuffer()')
  if (isThenable(data)) return new InvalidDataError('Promise', 'the value that it resolves to, with await')
  return new InvalidDataError('object', `JSON.stringify(value), or ${bytes}`)
}

/**
 * The payload of a ping or a pong. Code written for `ws` passes null for none.
 * @throws {InvalidDataError} for data that is neither text nor bytes.
 * @throws {PingTooLongError} for more than a control frame can hold.
 */
export function encodeControl(data: SendData | null | undefined): string | Uint8Array {
  const payload = encode(data ?? '')
  const length = Buffer.byteLength(payload)
  if (length > MAX_CONTROL_PAYLOAD) throw new PingTooLongError(length)
  return payload
}
