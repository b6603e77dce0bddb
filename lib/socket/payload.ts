import { isAnyArrayBuffer } from 'node:util/types'
import { MAX_CONTROL_PAYLOAD } from '../protocol/close-code.js'
import { InvalidDataError, PingTooLongError } from './error.js'
import type { SendCallback } from './send-callbacks.js'
import { isThenable } from './thenable.js'

/** What can be sent as a message: text, a number as its text, or bytes. */
export type SendData = string | number | ArrayBufferView | ArrayBufferLike

export interface SendOptions {
  /** Whether the message is binary. Default: false for strings, true for everything else. */
  readonly binary?: boolean | undefined
  /** Whether this is the last fragment of the message. Default: true. */
  readonly fin?: boolean | undefined
  /** Whether the message may be compressed, where `permessage-deflate` is in use. Default: true. */
  readonly compress?: boolean | undefined
  /** Taken from code written for `ws`, without effect: the role decides whether frames are masked. */
  readonly mask?: boolean | undefined
}

/**
 * The bytes or the text of a message.
 * @throws {InvalidDataError} for anything else: guessing has put uninitialised memory on the wire elsewhere.
 */
export function toPayload(data: SendData): string | Uint8Array {
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

/** What `ping` and `pong` are called with: the callback may come first. */
export type ControlArguments = readonly [
  data?: SendData | SendCallback | undefined,
  mask?: boolean | SendCallback | undefined,
  callback?: SendCallback | undefined
]

/** What a control frame carries, and who is told when it was sent. */
export interface Control {
  readonly payload: string | Uint8Array
  readonly callback: SendCallback | undefined
}

/**
 * @throws {InvalidDataError} for data that is neither text nor bytes.
 * @throws {PingTooLongError} for more than fits in a control frame.
 */
export function toControl([data, mask, last]: ControlArguments): Control {
  const callback = [data, mask, last].find(argument => typeof argument === 'function')
  // Code written for `ws` passes null for none.
  const payload = toPayload(typeof data === 'function' ? '' : (data ?? ''))
  const length = Buffer.byteLength(payload)
  if (length > MAX_CONTROL_PAYLOAD) throw new PingTooLongError(length)
  return { payload, callback }
}

export type BinaryType = 'nodebuffer' | 'arraybuffer' | 'fragments'

export const BINARY_TYPES: readonly BinaryType[] = ['nodebuffer', 'arraybuffer', 'fragments']

/** A binary message as a `binaryType` other than the default wants it. */
export function toBinaryType(data: Buffer, type: BinaryType): unknown {
  if (type === 'arraybuffer') return toArrayBuffer(data)
  return type === 'fragments' ? [data] : data
}

/** A copy of `data` that owns its memory. */
export function toArrayBuffer(data: Buffer): ArrayBuffer {
  const copy = new ArrayBuffer(data.length)
  new Uint8Array(copy).set(data)
  return copy
}
