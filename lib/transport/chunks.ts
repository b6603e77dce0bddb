import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/**
 * Calls back with each chunk of a stream that nobody else reads.
 *
 * A socket's queue, in which nothing waits while it flows, costs a tenth of all that a small message costs. So chunks of a
 * flowing socket are taken as Node pushes them; they come through the queue only when it is, or was, paused. Other streams
 * want to be asked for each chunk.
 */
export function onChunk(stream: Duplex, listener: (chunk: Buffer) => void): void {
  stream.on('data', listener)
  if (!(stream instanceof Socket)) return
  const { push } = stream
  stream.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
    const isQueued = stream.readableFlowing !== true || stream.readableLength > 0
    if (isQueued || !Buffer.isBuffer(chunk)) return Reflect.apply(push, stream, [chunk, encoding])
    listener(chunk)
    return true
  }
}
