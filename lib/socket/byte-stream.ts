import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** Told what happens on a byte stream. */
export interface ByteStreamOwner {
  onChunk(chunk: Buffer): void
  /** The peer sends no more. */
  onStreamEnd(): void
  onStreamClose(): void
}

const kOwner = Symbol('fastify-upgrade.owner')

interface OwnedStream extends Duplex {
  [kOwner]?: ByteStreamOwner
}

/**
 * Tells an owner of a stream that nobody else reads. The listeners are the same for all streams: closures of their own
 * would be a tenth of the memory of an idle connection.
 */
export function ownStream(stream: OwnedStream, owner: ByteStreamOwner): void {
  stream[kOwner] = owner
  stream.on('data', onData)
  stream.on('end', onEnd)
  stream.on('close', onClose)
  ignoreErrors(stream)
  if (isPlainSocket(stream)) stream.push = pushPastQueue
}

/**
 * Whether a stream is a TCP or local socket and nothing derived from it. One of TLS ends the process when it is given a
 * second write before the first is done.
 */
export function isPlainSocket(stream: Duplex): boolean {
  return Object.getPrototypeOf(stream) === Socket.prototype
}

/** Whether something is a stream: a WebSocket is made with an address, too, by who takes it for a client. */
export function isStream(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'pipe' in value
}

/** A reset is no error of the application, and must not be an uncaught exception: `close` follows. */
export function ignoreErrors(stream: Duplex): void {
  if (stream.listenerCount('error') === 0) stream.on('error', ignore)
}

function ignore(): void {}

function onData(this: OwnedStream, chunk: Buffer): void {
  this[kOwner]?.onChunk(chunk)
}

function onEnd(this: OwnedStream): void {
  this[kOwner]?.onStreamEnd()
}

function onClose(this: OwnedStream): void {
  this[kOwner]?.onStreamClose()
}

/**
 * A socket's queue, in which nothing waits while it flows, costs a tenth of all that a small message costs. So chunks of a
 * flowing socket are taken as Node pushes them; they come through the queue only when it is, or was, paused. Other streams
 * want to be asked for each chunk.
 */
function pushPastQueue(this: OwnedStream, chunk: unknown, encoding?: BufferEncoding): boolean {
  if (this.readableFlowing === true && this.readableLength === 0 && Buffer.isBuffer(chunk)) {
    this[kOwner]?.onChunk(chunk)
    return true
  }
  return Reflect.apply(Socket.prototype.push, this, [chunk, encoding])
}
