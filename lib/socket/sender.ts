import { BudgetShare } from '../limits/buffer-budget.js'
import type { Connection } from '../protocol/connection.js'
import type { CompressionExtension } from '../protocol/extension.js'
import { sizeOfHeader } from '../protocol/frame-header.js'
import { type ByteStream, isPlainSocket } from './byte-stream.js'
import { encode, type SendOptions } from './codec.js'
import { BudgetExceededError, BufferOverflowError, DroppedError, NotOpenError } from './error.js'
import type { Emission } from './events.js'
import { flushSoon } from './flush-queue.js'
import type { WebSocketSettings } from './options.js'
import { PreparedMessage } from './prepared-message.js'
import { type Acknowledged, acknowledgedBytes, takenBytes } from './send-queue.js'
import type { Stats } from './stats.js'

/** Called exactly once: when the message was handed to the operating system, or with an error. */
export type SendCallback = (error?: Error) => void

export type SenderSettings = Pick<
  WebSocketSettings,
  'highWaterMark' | 'maxBufferedAmount' | 'backpressure' | 'budget'
>

export interface SenderOptions {
  readonly settings: SenderSettings
  /** Whether frames are masked, as those of a client are. */
  readonly isClient: boolean
  readonly extension: CompressionExtension | undefined
}

/** The value that Node passes as the encoding of a Buffer; its types do not have it. */
const BUFFER = 'buffer' as BufferEncoding

/** The most bytes of UTF-8 that a UTF-16 code unit takes. */
const BYTES_PER_UNIT = 3

/** Limits that follow from the settings. */
interface Bounds {
  readonly limit: number
  /**
   * Up to this number of pending bytes the peer is not behind, and a message of any size is accepted. As `send` returns true
   * then, a caller that awaits `drained()` never reaches the limit.
   */
  readonly room: number
  /** The length from which a string or bytes may pass the limit although there is room. */
  readonly largeFrom: number
  /** Whether messages are dropped when there is no room for them. */
  readonly drops: boolean
}

/** The connections of a route share their settings. */
const bounds = new WeakMap<SenderSettings, Bounds>()

function boundsOf(settings: SenderSettings): Bounds {
  const known = bounds.get(settings)
  if (known !== undefined) return known
  const { highWaterMark, maxBufferedAmount } = settings
  const limit = maxBufferedAmount === false ? Number.POSITIVE_INFINITY : maxBufferedAmount
  const room = highWaterMark < limit ? highWaterMark : 0
  const largeFrom = Math.floor((limit - room - sizeOfHeader(limit, false)) / BYTES_PER_UNIT)
  const made = { limit, room, largeFrom, drops: settings.backpressure === 'drop' }
  bounds.set(settings, made)
  return made
}

type Payload = PreparedMessage | string | Uint8Array

function sizeOf(message: Payload): number {
  return message instanceof PreparedMessage ? message.size : Buffer.byteLength(message)
}

/** The state of a message that is sent in fragments, and of the messages that wait for its end. */
interface Fragments {
  compresses: boolean
  /** Whether the rest of a message in fragments must be dropped too. */
  drops: boolean
  /** Prepared messages, and their bytes as if they were not compressed. */
  readonly held: { readonly message: PreparedMessage; readonly callback: SendCallback | undefined }[]
  heldBytes: number
}

/**
 * Sends messages: encodes, compresses, frames and flushes them, and applies backpressure. It alone knows how many bytes are
 * pending. Everything sent within a tick leaves in one write.
 */
export class Sender {
  // Fields that every message needs come first: with many connections, memory access is most of the cost of a message.
  readonly #connection: Connection
  readonly #stream: ByteStream
  readonly #stats: Stats
  readonly #settings: SenderSettings
  readonly #bounds: Bounds
  readonly #extension: CompressionExtension | undefined
  readonly #isClient: boolean
  /** Whether the stream has a queue that may be passed. */
  readonly #isPlain: boolean
  #isScheduled = false
  /** The stream ends once everything is written. */
  #isFinishing = false
  /** `send` has returned false, so `drain` is due. */
  #isFull = false
  /** Whether `#onWritten` runs when the writes under way and the next one are done. */
  #watchesWrites = false
  /** Bytes that the socket was given past its queue and has not taken. */
  #pastQueue = 0
  /** Bytes of messages that do not count, as they were sent while there was room; until they are written. */
  #exempt = 0
  /** The value of `bytesSent` from which the pending pongs are written. */
  #pongMark = 0
  #readByPeer = 0
  readonly #emission: Emission
  #fragments: Fragments | undefined
  #callbacks: PendingCallbacks | undefined
  /** The callbacks of the writes under way. */
  #writes: Set<readonly SendCallback[]> | undefined
  /** Created when it is needed, as most connections never hold much. */
  #share: BudgetShare | undefined
  #waiters: { readonly resolve: () => void; readonly reject: (error: Error) => void }[] | undefined
  /** Dropped messages for which no event `drop` was emitted yet. */
  #unreportedDrops = 0

  constructor(
    stream: ByteStream,
    connection: Connection,
    emission: Emission,
    stats: Stats,
    { settings, isClient, extension }: SenderOptions
  ) {
    this.#stream = stream
    this.#connection = connection
    this.#emission = emission
    this.#stats = stats
    this.#settings = settings
    this.#bounds = boundsOf(settings)
    this.#extension = extension
    this.#isClient = isClient
    this.#isPlain = isPlainSocket(stream.duplex)
  }

  // ---- Messages

  /** Whether messages may be sent. */
  get isOpen(): boolean {
    return this.#connection.isOpen && this.#stream.isWritable
  }

  /**
   * Sends a message, or with `fin` false a fragment of one.
   * @returns false when more than `highWaterMark` bytes are pending, the message was dropped or the connection is not open.
   * @throws {InvalidDataError} for data that is neither text nor bytes.
   */
  send(data: unknown, options: SendOptions | undefined, callback: SendCallback | undefined): boolean {
    const message = data instanceof PreparedMessage ? data : encode(data)
    if (!this.isOpen) return this.#refuse(callback)
    const fin = options?.fin ?? true
    if (this.#bounds.drops && !this.#admits(message, fin)) return this.#refuse(callback, new DroppedError())
    if (message instanceof PreparedMessage)
      this.#sendPrepared(message, this.#exempted(message, message.size, callback))
    else {
      const isBinary = options?.binary ?? typeof message !== 'string'
      const done = this.#exempted(message, message.length, callback)
      this.#sendMessage(message, isBinary, fin, options?.compress ?? true, done)
    }
    return this.hasRoom()
  }

  /** @param payload at most 125 bytes. */
  sendControl(kind: 'ping' | 'pong', payload: string | Uint8Array, callback: SendCallback | undefined): void {
    if (!this.isOpen) return void this.#refuse(callback)
    this.#connection[kind](payload)
    this.flushSoon(callback)
    this.hasRoom(true)
  }

  #sendMessage(
    data: string | Uint8Array,
    isBinary: boolean,
    fin: boolean,
    compress: boolean,
    callback: SendCallback | undefined
  ): void {
    let isCompressed = false
    if (this.#extension === undefined) this.#connection.output.send(data, isBinary, fin)
    else isCompressed = this.#compressMessage(this.#extension, data, isBinary, fin, compress)
    if (fin) this.#stats.onMessageSent(data, isBinary, isCompressed)
    else this.#stats.onFragmentSent(data)
    this.flushSoon(callback)
    if (fin && this.#fragments !== undefined) this.#sendHeld(this.#fragments)
  }

  /**
   * RFC 7692 section 6.1.
   * @returns whether the message leaves compressed.
   */
  #compressMessage(
    { compressor, threshold }: CompressionExtension,
    data: string | Uint8Array,
    isBinary: boolean,
    fin: boolean,
    compress: boolean
  ): boolean {
    const { output } = this.#connection
    const size = Buffer.byteLength(data)
    const isWhole = fin && !output.sendsFragments
    if (!(isWhole ? compress && size >= threshold : this.#compressesFragments(compress))) {
      output.send(data, isBinary, fin)
      return false
    }
    const compressed = compressor.compress(data, fin)
    // Compression may gain nothing. With takeover the peer's window would then lack what this side's has.
    if (isWhole && !compressor.takesOver && Buffer.isBuffer(compressed) && compressed.length >= size) {
      output.send(data, isBinary)
      return false
    }
    if (compressed instanceof Promise) this.#sendLater(compressed, isBinary, fin, size)
    else output.send(compressed, isBinary, fin, true)
    return true
  }

  /** The first frame of a message says whether it is compressed; its size is not known then. RFC 7692 section 6.1. */
  #compressesFragments(compress: boolean): boolean {
    const fragments = this.#fragmentState()
    if (!this.#connection.output.sendsFragments) fragments.compresses = compress
    return fragments.compresses
  }

  #sendPrepared(message: PreparedMessage, callback: SendCallback | undefined): void {
    const { output } = this.#connection
    // RFC 6455 section 5.4: no message comes between the fragments of another. A broadcast does not know about them.
    if (output.sendsFragments) {
      const fragments = this.#fragmentState()
      fragments.held.push({ message, callback })
      fragments.heldBytes += sizeOfHeader(message.size, this.#isClient) + message.size
      return
    }
    const extension = this.#extension
    // A client masks each frame with a fresh key, and with takeover each connection has a window of its own.
    if (this.#isClient || extension?.compressor.takesOver === true) {
      this.#sendMessage(message.payload, message.isBinary, true, message.compress, callback)
      return
    }
    let isCompressed = false
    if (extension === undefined) output.append(message.frame)
    else isCompressed = this.#sendCompressedFrame(message, extension)
    this.#stats.onMessageSent(message.payload, message.isBinary, isCompressed)
    this.flushSoon(callback)
  }

  /** @returns whether the message leaves compressed. */
  #sendCompressedFrame(message: PreparedMessage, { compressor, threshold }: CompressionExtension): boolean {
    const { output } = this.#connection
    const compresses = message.compress && message.size >= threshold
    const frame = compresses ? message.compressedFrame(compressor) : message.frame
    if (frame instanceof Promise) this.#sendLater(frame, message.isBinary, true, message.size)
    else output.append(frame)
    // Where compression gains nothing, it is the frame of the message itself.
    return frame !== message.frame
  }

  /** Reserves the place of a message that the thread pool compresses. */
  #sendLater(compressed: Promise<Buffer>, isBinary: boolean, fin: boolean, size: number): void {
    const { output } = this.#connection
    const gap = output.sendLater(isBinary, fin, size)
    this.#pendingCallbacks().leaveGap()
    compressed.then(
      data => {
        output.fillGap(gap, data)
        this.flushSoon()
      },
      error => {
        // An accepted message cannot be sent any more.
        if (this.#stream.isDestroyed) return
        this.#stream.runInAsyncScope(this.#emission.reportError, this.#emission, error)
        this.cut()
      }
    )
  }

  #fragmentState(): Fragments {
    this.#fragments ??= { compresses: false, drops: false, held: [], heldBytes: 0 }
    return this.#fragments
  }

  #sendHeld(fragments: Fragments): void {
    const held = fragments.held.splice(0)
    fragments.heldBytes = 0
    for (const { message, callback } of held) this.#sendPrepared(message, callback)
  }

  /** Refuses a message that comes too late, or for which there is no room. The callback runs after `send` has returned. */
  #refuse(callback: SendCallback | undefined, reason?: Error): false {
    if (callback === undefined) return false
    const error = reason ?? new NotOpenError()
    process.nextTick(() => this.#stream.runInAsyncScope(this.#emission.call, this.#emission, callback, error))
    return false
  }

  // ---- Flushing

  /** Schedules a flush, once everything that can be read has been read; `callback` is called when the data is written. */
  flushSoon(callback?: SendCallback): void {
    if (callback !== undefined) this.#pendingCallbacks().add(callback)
    if (this.#isScheduled) return
    this.#isScheduled = true
    flushSoon(this)
  }

  /** Writes the output, and ends the stream after it if this side has to. */
  flush(): void {
    this.#isScheduled = false
    const connection = this.#connection
    const isWritten = this.#stats.bytesSent - this.unsent >= this.#pongMark
    const buffers = connection.dataToSend(isWritten)
    if (this.#stream.isEnded || this.#stream.isDestroyed) return
    if (buffers.length > 0) this.#write(buffers)
    if (isWritten) this.#pongMark = this.#stats.bytesSent
    if (connection.holdsPong) this.#watchesWrites = true
    // RFC 6455 section 7.1.1: after both Close frames the server ends TCP at once.
    if ((this.#isFinishing || connection.closeExpected) && connection.output.gaps === 0) this.#stream.end()
  }

  /** Flushes, and ends this side of the stream as soon as everything is written. */
  finish(): void {
    this.#isFinishing = true
    this.flush()
  }

  /** Flushes in the middle of a chunk if many pings arrived together and the socket may have room for all the pongs. */
  flushPongs(): void {
    const { isFullOfPongs, output } = this.#connection
    if (isFullOfPongs && output.gaps === 0 && this.unsent === 0) this.flush()
  }

  /** Cuts the connection: pending data is dropped, and received data that was not delivered yet never is. */
  cut(reason?: Error): void {
    if (reason !== undefined) this.#stats.onFailure(reason)
    this.#connection.input.pause()
    this.#stream.cut(reason)
  }

  /** @param buffers at least one. */
  #write(buffers: readonly Buffer[]): void {
    const { duplex } = this.#stream
    const callbacks = this.#callbacks?.take(this.#connection.output.gaps)
    const last = buffers.length - 1
    // Behind a backlog every write is watched: `#watchesWrites` may be set later.
    const isWatched = callbacks !== undefined || this.#watchesWrites || this.unsent > 0
    if (last === 0 && !isWatched && this.#isPlain && duplex.writableCorked === 0) {
      this.#writePastQueue(buffers[0])
      return
    }
    if (last > 0) duplex.cork()
    for (let i = 0; i < last; i++) this.#writeBuffer(buffers[i])
    if (isWatched) this.#writeBuffer(buffers[last], this.#afterWrite(callbacks ?? []))
    else this.#writeBuffer(buffers[last])
    if (last > 0) duplex.uncork()
  }

  #writeBuffer(buffer: Buffer, callback?: (error?: Error | null) => void): void {
    this.#stats.onBytesSent(buffer.length)
    this.#stream.duplex.write(buffer, callback)
  }

  /** A socket without pending data usually takes data at once, and its queue would only add a tick to that. */
  #writePastQueue(buffer: Buffer): void {
    this.#stats.onBytesSent(buffer.length)
    this.#pastQueue = buffer.length
    this.#stream.duplex._write(buffer, BUFFER, error => {
      this.#pastQueue = 0
      if (error) this.#stream.duplex.destroy(error)
      else this.#notifyWritten()
    })
  }

  #afterWrite(callbacks: readonly SendCallback[]): (error?: Error | null) => void {
    this.#writes ??= new Set()
    const writes = this.#writes
    writes.add(callbacks)
    return error => {
      // Data that a socket did not write before it was destroyed is settled by `onClose`.
      if (this.#stream.isDestroyed || !writes.delete(callbacks)) return
      this.#stream.runInAsyncScope(this.#settle, this, callbacks, error ?? undefined)
      if (!error) this.#notifyWritten()
    }
  }

  #notifyWritten(): void {
    // A destroyed socket ends its writes as if they had succeeded.
    if (!this.#watchesWrites || this.#stream.isDestroyed) return
    this.#watchesWrites = false
    this.#stream.runInAsyncScope(this.#onWritten, this)
  }

  #settle(callbacks: readonly SendCallback[], error: Error | undefined): void {
    for (const callback of callbacks) this.#emission.call(callback, error)
  }

  #pendingCallbacks(): PendingCallbacks {
    this.#callbacks ??= new PendingCallbacks()
    return this.#callbacks
  }

  // ---- Buffered bytes

  /** Bytes that were sent, frame headers included, and that the operating system has not taken. */
  get bufferedAmount(): number {
    const { size } = this.#connection.output
    return this.#stream.isClosed ? size : size + this.unsent + this.#heldBytes
  }

  /** Bytes that wait for the end of a message in fragments, not for the peer. */
  get #heldBytes(): number {
    return this.#fragments?.heldBytes ?? 0
  }

  /** Bytes that the stream was given and that the operating system has not taken. */
  get unsent(): number {
    return this.#pastQueue + this.#stream.duplex.writableLength
  }

  /** Bytes that the stream was given. */
  get written(): number {
    return this.#stats.bytesSent
  }

  /** Bytes that the peer is known to have read. */
  get readByPeer(): number {
    return this.#readByPeer
  }

  /** @param bytes counted as `written`, that the peer has read. */
  onRead(bytes: number): void {
    this.#readByPeer = bytes
  }

  /** Bytes that the operating system has taken. It takes more as the peer reads. */
  get taken(): number {
    return takenBytes(this.#stream.duplex) ?? this.#stats.bytesSent - this.unsent
  }

  /** Bytes that the peer's system has acknowledged, counted as `taken`, where the system shows it. */
  acknowledged(): Promise<Acknowledged | undefined> | undefined {
    return acknowledgedBytes(this.#stream.duplex)
  }

  /** Whether a caller waits until the peer reads: for `drained()`, or for the callback of a write. */
  get isAwaited(): boolean {
    if (this.#waiters !== undefined) return true
    for (const callbacks of this.#writes ?? []) if (callbacks.length > 0) return true
    return false
  }

  /** Resolves once there is room; rejects when the connection closes first. */
  drained(): Promise<void> {
    if (this.hasRoom()) return Promise.resolve()
    return new Promise((resolve, reject) => {
      this.#waiters ??= []
      this.#waiters.push({ resolve, reject })
    })
  }

  // ---- Backpressure

  /**
   * Whether more may be sent. A peer that does not read at all costs the connection.
   * @param afterControl whether a control frame was sent, which is not dropped.
   */
  hasRoom(afterControl = false): boolean {
    const { highWaterMark, budget } = this.#settings
    const { limit } = this.#bounds
    const pending = this.bufferedAmount
    this.#stats.onBuffered(pending)
    const share = BudgetShare.of(this.#share, budget, pending)
    const exceeds = share?.hold(pending) === true
    this.#share = share
    // The share is released as data is written.
    if (share?.isHeld) this.#watchesWrites = true
    if (pending <= highWaterMark && pending <= limit) return true
    // The sender of the fragments would wait for ever.
    const unread = pending - this.#heldBytes
    const hasRoom = unread <= highWaterMark && unread <= limit
    const isCut = !this.#bounds.drops || (afterControl && !hasRoom)
    if (pending - this.#exempt > limit && isCut) this.#overflow(new BufferOverflowError(limit))
    else if (exceeds && isCut) this.#overflow(new BudgetExceededError(share.limit))
    else if (hasRoom) return true
    else this.#watchesWrites = true
    if (!this.#isFull) this.#stats.onBackpressureStarted()
    this.#isFull = true
    return false
  }

  /** Whether a message, or a fragment of one, may be sent; else it was dropped. */
  #admits(message: Payload, fin: boolean): boolean {
    const size = sizeOf(message)
    // A prepared message is never a fragment.
    if (message instanceof PreparedMessage) return this.#fits(size) || this.#drop()
    if (this.#fragments?.drops === true) {
      this.#fragments.drops = !fin
      return false
    }
    // A message that was begun is finished: the peer has its first part.
    if (this.#connection.output.sendsFragments || this.#fits(size)) return true
    if (!fin) this.#fragmentState().drops = true
    return this.#drop()
  }

  #fits(size: number): boolean {
    const { budget, highWaterMark } = this.#settings
    const { room, limit } = this.#bounds
    const pending = this.bufferedAmount
    if (pending > room && pending - this.#exempt + size > limit) return false
    return pending <= highWaterMark || budget?.isExceeded !== true
  }

  #drop(): false {
    this.#stats.onMessageDropped()
    this.#unreportedDrops++
    if (this.#unreportedDrops === 1)
      process.nextTick(() => {
        const count = this.#unreportedDrops
        this.#unreportedDrops = 0
        this.#stream.runInAsyncScope(this.#emission.emit, this.#emission, 'drop', count)
      })
    return false
  }

  /**
   * Called before a message, or a fragment of one, is sent. Where it would pass the limit although there is room, it does
   * not count until it is written: the limit is for a peer that falls behind.
   * @param length of the string or of the bytes.
   * @returns the callback to send it with.
   */
  #exempted(message: Payload, length: number, callback: SendCallback | undefined): SendCallback | undefined {
    const { largeFrom, room, limit } = this.#bounds
    if (length < largeFrom) return callback
    const pending = this.bufferedAmount
    const payload = sizeOf(message)
    const size = sizeOfHeader(payload, false) + payload
    if (pending > room || pending + size <= limit) return callback
    this.#exempt += size
    return error => {
      this.#exempt -= size
      return callback?.(error)
    }
  }

  #overflow(error: Error): void {
    if (!this.isOpen) return
    this.#emission.setFailure(error)
    // Before `close`, and not in the middle of a broadcast.
    process.nextTick(() => this.#stream.runInAsyncScope(this.#emission.emitError, this.#emission, error))
    this.cut(error)
  }

  #onWritten(): void {
    if (this.#connection.holdsPong) this.flushSoon()
    if (!this.hasRoom() || !this.#isFull) return
    this.#isFull = false
    this.#stats.onBackpressureEnded()
    const waiters = this.#waiters ?? []
    this.#waiters = undefined
    for (const { resolve } of waiters) resolve()
    this.#emission.emit('drain')
  }

  /** The stream is gone: every pending callback gets an error. */
  onClose(): void {
    this.#extension?.close()
    for (const { callback } of this.#fragments?.held ?? [])
      if (callback !== undefined) this.#pendingCallbacks().add(callback)
    const callbacks = [...(this.#writes ?? []), this.#callbacks?.take(0) ?? []].flat()
    // A write that ends later finds its callbacks gone.
    this.#writes?.clear()
    if (callbacks.length > 0) this.#settle(callbacks, new NotOpenError())
    this.#share?.hold(0)
    const waiters = this.#waiters ?? []
    this.#waiters = undefined
    if (waiters.length > 0) {
      const error = new NotOpenError()
      for (const { reject } of waiters) reject(error)
    }
  }
}

/** The callbacks of messages that are not written yet, in the order of the frames. */
class PendingCallbacks {
  #ready: SendCallback[] | undefined
  /** The callbacks of the frame that closes each gap, and of the frames behind it. */
  #behind: SendCallback[][] | undefined

  add(callback: SendCallback): void {
    const last = this.#behind?.at(-1)
    if (last !== undefined) last.push(callback)
    else if (this.#ready !== undefined) this.#ready.push(callback)
    else this.#ready = [callback]
  }

  /** Callbacks that are added from now on belong to the frame of a gap, or to the frames behind it. */
  leaveGap(): void {
    this.#behind ??= []
    this.#behind.push([])
  }

  /**
   * Takes the callbacks of the frames that are about to be written.
   * @param gaps the number of gaps that hold frames back.
   */
  take(gaps: number): SendCallback[] | undefined {
    const behind = this.#behind
    while (behind !== undefined && behind.length > gaps) {
      const [first] = behind.splice(0, 1)
      this.#ready = this.#ready === undefined ? first : this.#ready.concat(first)
    }
    const callbacks = this.#ready
    this.#ready = undefined
    return callbacks?.length === 0 ? undefined : callbacks
  }
}
