import { InvalidDataError } from './error.js'

/** What can be sent as a message: text, or bytes. */
export type SendData = string | ArrayBufferView | ArrayBufferLike

/**
 * The bytes or the text of a message.
 * @throws {InvalidDataError} for anything else: guessing has put uninitialised memory on the wire elsewhere.
 */
export function toPayload(data: SendData): string | Uint8Array {
  if (typeof data === 'string' || data instanceof Uint8Array) return data
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  if (data instanceof ArrayBuffer || data instanceof SharedArrayBuffer) return new Uint8Array(data)
  throw new InvalidDataError(data === null ? 'null' : typeof data)
}

/** A copy of `data` that owns its memory. */
export function toArrayBuffer(data: Buffer): ArrayBuffer {
  const copy = new ArrayBuffer(data.length)
  new Uint8Array(copy).set(data)
  return copy
}
