import { sizeOfHeader, writeHeader } from './frame-header.js'
import { mask } from './mask.js'

/** Frames are copied together into slabs of this many bytes, which all connections share. */
const SLAB_SIZE = 65536

/** Payloads from this size on are not copied but passed on by reference. */
const COPY_BELOW = 4096

let slab = Buffer.allocUnsafeSlow(SLAB_SIZE)
let slabEnd = 0

/**
 * Frames that wait to be sent, as few buffers as possible. Frames written one after the other by one connection stand
 * one after the other in the slab, so they leave as one buffer.
 */
export class FrameWriter {
  readonly #maskingKey: (() => number) | undefined
  #buffers: Buffer[] = []
  /** The part of `#slab` that is written and not yet in `#buffers`; it can grow while nobody else wrote behind it. */
  #slab = slab
  #start = 0
  #end = 0
  /** Bytes that wait. */
  size = 0

  /** @param maskingKey gives a fresh, unpredictable 32-bit key a frame (RFC 6455 section 10.3); only clients mask. */
  constructor(maskingKey?: () => number) {
    this.#maskingKey = maskingKey
  }

  /**
   * Adds a frame. A payload of 4 KiB or more that needs no mask is passed on by reference, not copied.
   * @param first FIN, reserved bits and opcode.
   */
  write(first: number, payload: string | Uint8Array): void {
    const length = typeof payload === 'string' ? Buffer.byteLength(payload) : payload.length
    const key = this.#maskingKey?.()
    const headerSize = sizeOfHeader(length, key !== undefined)
    if (length >= COPY_BELOW) {
      this.#writeLarge(first, payload, length, headerSize, key)
      return
    }
    const at = this.#reserve(headerSize + length)
    const start = writeHeader(slab, at, first, length, key)
    if (typeof payload === 'string') slab.write(payload, start)
    else slab.set(payload, start)
    if (key !== undefined) mask(slab, start, start + length, key, 0)
  }

  /** What waits, in order; it is the caller's from then on. */
  take(): Buffer[] {
    this.#close()
    const buffers = this.#buffers
    this.#buffers = []
    this.size = 0
    return buffers
  }

  #writeLarge(
    first: number,
    payload: string | Uint8Array,
    length: number,
    headerSize: number,
    key: number | undefined
  ): void {
    // `#reserve` may begin a new slab, so it comes before `slab` is looked at.
    const at = this.#reserve(headerSize)
    writeHeader(slab, at, first, length, key)
    this.#close()
    const body = bytesOf(payload, key !== undefined)
    if (key !== undefined) mask(body, 0, length, key, 0)
    this.#buffers.push(body)
    this.size += length
  }

  /** Makes room behind what this connection wrote last, or begins a new part. */
  #reserve(size: number): number {
    this.size += size
    const extends_ = this.#slab === slab && this.#end === slabEnd && slabEnd + size <= SLAB_SIZE
    if (!extends_) {
      this.#close()
      if (slabEnd + size > SLAB_SIZE) {
        slab = Buffer.allocUnsafeSlow(SLAB_SIZE)
        slabEnd = 0
      }
      this.#slab = slab
      this.#start = slabEnd
    }
    const at = slabEnd
    slabEnd += size
    this.#end = slabEnd
    return at
  }

  #close(): void {
    if (this.#end > this.#start) this.#buffers.push(this.#slab.subarray(this.#start, this.#end))
    this.#start = this.#end
  }
}

function bytesOf(payload: string | Uint8Array, copy: boolean): Buffer {
  if (typeof payload === 'string') return Buffer.from(payload)
  if (copy) return Buffer.from(payload)
  return Buffer.isBuffer(payload)
    ? payload
    : Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
}
