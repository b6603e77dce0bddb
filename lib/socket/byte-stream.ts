import { AsyncResource } from 'node:async_hooks'
import type { Http2Stream } from 'node:http2'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** Takes what happens on a byte stream, in the async context in which the {@link ByteStream} was made. */
export interface ByteStreamReader {
  /** @param isSole whether nothing else refers to the memory of the chunk. */
  onChunk(chunk: Buffer, isSole: boolean): void
  /** The peer has ended its side of the stream. */
  onStreamEnd(): void
  /** The stream is gone. Nothing follows. */
  onStreamClose(): void
}

const kByteStream = Symbol('fastify-upgrade.byteStream')

interface OwnedStream extends Duplex {
  [kByteStream]?: ByteStream
}

/**
 * The stream below a WebSocket: TCP, TLS, a stream of HTTP/2 or memory. It is read here and written by the sender. Its
 * `end` and `destroy` go through this class, so that every part of the connection sees how it ended.
 */
export class ByteStream extends AsyncResource {
  readonly duplex: Duplex
  #reader: ByteStreamReader | undefined
  #hasPeerEnded = false
  #isEnded = false
  #isClosed = false
  #cutReason: Error | undefined

  /** @param duplex a stream without another reader. */
  constructor(duplex: OwnedStream) {
    super('WEBSOCKET')
    this.duplex = duplex
    duplex[kByteStream] = this
    // This class decides when to end. Node must not do it on the peer's end: data that it sent before may still be unread.
    duplex.allowHalfOpen = true
    duplex.pause()
  }

  /**
   * Starts the events. The listeners are the same for all streams: closures for each stream would be a tenth of the memory
   * of an idle connection.
   */
  start(reader: ByteStreamReader): void {
    const { duplex } = this
    this.#reader = reader
    duplex.on('data', onData)
    duplex.on('end', onEnd)
    duplex.on('close', onClose)
    ignoreErrors(duplex)
    if (isPlainSocket(duplex)) duplex.push = pushPastQueue
    // The peer may have disconnected during the handshake, and the events of that have fired already.
    if (duplex.readableEnded) process.nextTick(() => this.onEnd())
    if (duplex.closed) process.nextTick(() => this.onClose())
  }

  /** Whether the peer has ended its side. */
  get hasPeerEnded(): boolean {
    return this.#hasPeerEnded
  }

  /** Whether this side has ended the stream. */
  get isEnded(): boolean {
    return this.#isEnded
  }

  get isClosed(): boolean {
    return this.#isClosed
  }

  get isDestroyed(): boolean {
    return this.duplex.destroyed
  }

  /** Whether data may be written. */
  get isWritable(): boolean {
    return !this.#hasPeerEnded && !this.#isEnded && !this.duplex.destroyed
  }

  /** Why this side cut the connection, unless the application asked for it. */
  get cutReason(): Error | undefined {
    return this.#cutReason
  }

  /** Notes why the connection will end. The first reason stays. */
  setCutReason(reason: Error): void {
    this.#cutReason ??= reason
  }

  pause(): void {
    this.duplex.pause()
  }

  resume(): void {
    if (this.duplex.isPaused()) this.duplex.resume()
  }

  /** Ends this side. */
  end(): void {
    this.#isEnded = true
    this.duplex.end()
    // The peer's end of the stream comes after the data that it still sends; that is read and dropped.
    this.duplex.resume()
  }

  /** Destroys the stream; pending data is dropped. */
  cut(reason?: Error): void {
    if (reason !== undefined && !this.isDestroyed) this.setCutReason(reason)
    cutStream(this.duplex)
  }

  /** @internal */
  onChunk(chunk: Buffer, isSole: boolean): void {
    const reader = this.#reader
    if (reader !== undefined) this.runInAsyncScope(reader.onChunk, reader, chunk, isSole)
  }

  /** @internal */
  onEnd(): void {
    this.#hasPeerEnded = true
    const reader = this.#reader
    if (reader !== undefined) this.runInAsyncScope(reader.onStreamEnd, reader)
  }

  /** @internal */
  onClose(): void {
    const reader = this.#reader
    if (this.#isClosed || reader === undefined) return
    this.#isClosed = true
    this.runInAsyncScope(reader.onStreamClose, reader)
  }
}

/**
 * Whether a stream is a TCP or local socket and nothing derived from it. A TLS socket ends the process on a second
 * `_write` before the first is done.
 */
export function isPlainSocket(stream: Duplex): boolean {
  return Object.getPrototypeOf(stream) === Socket.prototype
}

/** Whether a value is a stream. Code that takes `WebSocket` for a client passes a URL. */
export function isStream(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'pipe' in value
}

/** The error code CANCEL of HTTP/2, RFC 9113 section 7. */
const CANCEL = 8

/** Destroys a stream. RFC 8441 section 5: over HTTP/2 it is reset with CANCEL, as TCP is with RST. */
export function cutStream(stream: Duplex): void {
  if (isHttp2Stream(stream)) stream.close(CANCEL)
  stream.destroy()
}

/** Found by a property, as most processes do not load `node:http2`. */
function isHttp2Stream(stream: Duplex): stream is Http2Stream {
  return 'rstCode' in stream
}

/** Ignores resets, which would otherwise be uncaught exceptions; `close` follows. */
export function ignoreErrors(stream: Duplex): void {
  if (stream.listenerCount('error') === 0) stream.on('error', ignore)
}

function ignore(): void {}

function onData(this: OwnedStream, chunk: Buffer): void {
  // The stream may have other listeners.
  this[kByteStream]?.onChunk(chunk, false)
}

function onEnd(this: OwnedStream): void {
  this[kByteStream]?.onEnd()
}

function onClose(this: OwnedStream): void {
  this[kByteStream]?.onClose()
}

/**
 * A socket's queue, which is empty while the socket flows, costs a tenth of the total cost of a small message. So chunks of a
 * flowing socket are taken as Node pushes them; they come through the queue only when it is, or was, paused. Other streams
 * must be asked for each chunk.
 */
function pushPastQueue(this: OwnedStream, chunk: unknown, encoding?: BufferEncoding): boolean {
  if (this.readableFlowing === true && this.readableLength === 0 && Buffer.isBuffer(chunk)) {
    this[kByteStream]?.onChunk(chunk, true)
    return true
  }
  return Reflect.apply(Socket.prototype.push, this, [chunk, encoding])
}
