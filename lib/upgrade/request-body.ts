import { createServer, type IncomingMessage } from 'node:http'
import { PassThrough } from 'node:stream'

/** The body of a request that asks for an upgrade, as it came over the wire, if Node has read it by now. */
export function takeBody(request: IncomingMessage): Buffer {
  const chunks: Buffer[] = []
  while (request.readableLength > 0) chunks.push(request.read())
  const body = Buffer.concat(chunks)
  const isChunked = request.headers['transfer-encoding'] !== undefined
  return isChunked && (body.length > 0 || readsBodies()) ? chunked(body, request.rawTrailers) : body
}

/** RFC 9112 section 7.1: one chunk, the last chunk and the trailers. */
export function chunked(body: Buffer, rawTrailers: readonly string[]): Buffer {
  const chunk =
    body.length > 0 ? [Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from('\r\n')] : []
  let end = '0\r\n'
  for (let i = 0; i + 1 < rawTrailers.length; i += 2) end += `${rawTrailers[i]}: ${rawTrailers[i + 1]}\r\n`
  return Buffer.concat([...chunk, Buffer.from(`${end}\r\n`, 'latin1')])
}

const PROBE = [
  'POST / HTTP/1.1',
  'Host: x',
  'Connection: upgrade',
  'Upgrade: x',
  'Transfer-Encoding: chunked',
  '',
  '0\r\n\r\n'
].join('\r\n')

let isReadByNode: boolean | undefined

/**
 * Whether Node reads the body of a request that asks for an upgrade, as since version 26. An empty body in chunks leaves
 * no trace on the request, so a request in memory shows it.
 */
function readsBodies(): boolean {
  isReadByNode ??= probe()
  return isReadByNode
}

function probe(): boolean {
  const server = createServer()
  const socket = new PassThrough()
  let isRead = false
  server.on('upgrade', (_request, _socket, head) => {
    isRead = head.length === 0
  })
  server.emit('connection', socket)
  socket.emit('data', Buffer.from(PROBE))
  socket.destroy()
  return isRead
}
