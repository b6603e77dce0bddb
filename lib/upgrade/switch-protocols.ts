import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/**
 * RFC 6455 section 4.2.2: the 101 goes out, and from here on the stream carries frames.
 * @param response the head of the 101.
 * @param head the first bytes of the connection, which came with the request.
 */
export function switchProtocols(stream: Duplex, response: string, head: Buffer | undefined): void {
  if (stream instanceof Socket) {
    stream.setTimeout(0)
    stream.setNoDelay(true)
  }
  if (head !== undefined && head.length > 0) stream.unshift(head)
  stream.write(response, 'latin1')
}
