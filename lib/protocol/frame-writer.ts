import { FIN, RSV1, sizeOfHeader, writeHeader } from './frame-header.js'
import { mask } from './mask.js'
import { BINARY, CONTINUATION, TEXT } from './opcode.js'

/** Frames are copied together into slabs of this many bytes, which all connections share. */
const SLAB_SIZE = 65536

/** Payloads from this size on are not copied but passed on by reference. */
export const COPY_BELOW = 4096

/** The place of a frame that is not ready yet, and the frames that wait behind it. */
export class Gap {
  /** FIN, reserved bits and opcode of the frame. */
  readonly first: number
  readonly size: number
  readonly behind: Buffer[] = []
  isFilled = false

  constructor(first: number, size: number) {
    this.first = first
    this.size = size
  }
}

/** Shared by all writers in which nothing waits. */
const NOTHING: Buffer[] = []

let slab = Buffer.allocUnsafeSlow(SLAB_SIZE)
let slabEnd = 0

/**
 * Pending frames in as few buffers as possible. Consecutive frames of one connection are adjacent in the slab, so they
 * leave as one buffer.
 */
export class FrameWriter {
  readonly #maskingKey: (() => number) | undefined
  /** The frames that may be sent. */
  #ready = NOTHING
  /** The list to which frames are added: the frames that may be sent, or those behind the last gap. */
  #open = NOTHING
  #gaps: Gap[] | undefined
  /** The part of `#slab` that is written and not yet in `#buffers`; it can grow until another connection has written behind it. */
  #slab = slab
  #start = 0
  #end = 0
  /** Bytes that are pending. */
  size = 0
  #sendsFragments = false

  /**
   * @param maskingKey returns a fresh, unpredictable 32-bit key for each frame (RFC 6455 section 10.3); only clients
   * mask.
   */
  constructor(maskingKey?: () => number) {
    this.#maskingKey = maskingKey
  }

  /**
   * Adds a message, or with `fin` false a fragment of one; the next call continues it, whatever its `isBinary` says. Must not
   * be called after a Close frame was sent.
   */
  send(data: string | Uint8Array, isBinary: boolean, fin = true, isCompressed = false): void {
    this.write(this.#firstByte(isBinary, fin, isCompressed), data)
  }

  /**
   * Keeps the place of a message, or a fragment of one, that is being compressed; frames that are added later leave after it.
   * @param size bytes that count as pending until {@link fillGap} is called.
   */
  sendLater(isBinary: boolean, fin: boolean, size: number): Gap {
    return this.leaveGap(this.#firstByte(isBinary, fin, true), size)
  }

  /** Whether a message was begun in fragments and is not finished. */
  get sendsFragments(): boolean {
    return this.#sendsFragments
  }

  /** RFC 6455 section 5.2. RFC 7692 section 6.1: the first frame of a message says whether it is compressed. */
  #firstByte(isBinary: boolean, fin: boolean, isCompressed: boolean): number {
    let first = isBinary ? BINARY : TEXT
    if (isCompressed) first |= RSV1
    if (this.#sendsFragments) first = CONTINUATION
    this.#sendsFragments = !fin
    return fin ? FIN | first : first
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

  /** Adds a frame that is complete in a buffer, by reference. */
  append(frame: Buffer): void {
    this.#close()
    this.#add(frame)
    this.size += frame.length
  }

  /** The number of open gaps: each holds back the frames behind it. */
  get gaps(): number {
    return this.#gaps?.length ?? 0
  }

  /** @param size the bytes that the gap adds to `size` until it is filled. */
  leaveGap(first: number, size: number): Gap {
    this.#close()
    const gap = new Gap(first, size)
    this.#gaps ??= []
    this.#gaps.push(gap)
    this.#open = gap.behind
    this.size += size
    return gap
  }

  /** Puts the frame into its gap. Gaps may be filled in any order; they close in that of the frames. */
  fillGap(gap: Gap, payload: Uint8Array): void {
    const writer = new FrameWriter(this.#maskingKey)
    writer.write(gap.first, payload)
    this.size += writer.size - gap.size
    gap.behind.unshift(...writer.take())
    gap.isFilled = true
    this.#close()
    while (this.#gaps?.[0]?.isFilled) {
      this.#ready = this.#ready.concat(this.#gaps[0].behind)
      this.#gaps.shift()
    }
    if (this.gaps === 0) this.#open = this.#ready
  }

  /** Removes and returns the pending frames, in order, up to the first gap; they belong to the caller. */
  take(): Buffer[] {
    this.#close()
    const buffers = this.#ready
    this.#ready = NOTHING
    if (this.#open === buffers) {
      this.#open = NOTHING
      this.size = 0
    } else for (const { length } of buffers) this.size -= length
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
    this.#add(body)
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

  #add(buffer: Buffer): void {
    // Most writes have one buffer. A literal list of one buffer is smaller, as V8 reserves seventeen entries for a list that grows.
    if (this.#open === NOTHING) this.#ready = this.#open = [buffer]
    else this.#open.push(buffer)
  }

  /** Adds the frames that were written into the slab. */
  #close(): void {
    if (this.#end > this.#start) this.#add(this.#slab.subarray(this.#start, this.#end))
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

/** A whole frame without a mask, in a buffer of its own. */
export function frameOf(first: number, payload: string | Uint8Array): Buffer {
  const length = Buffer.byteLength(payload)
  const size = sizeOfHeader(length, false)
  const frame = Buffer.allocUnsafeSlow(size + length)
  writeHeader(frame, 0, first, length, undefined)
  if (typeof payload === 'string') frame.write(payload, size)
  else frame.set(payload, size)
  return frame
}
