import { createServer, type IncomingMessage, type Server, ServerResponse } from 'node:http'
import { type Duplex, PassThrough } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { asksForH2cOnly } from '../protocol/handshake/request.js'
import { parseTokenList } from '../protocol/handshake/token.js'
import { afterResponses, refusalResponse } from './http1.js'

/** Fields that ask for an upgrade, RFC 9110 section 7.8 and RFC 7540 section 3.2.1. */
const UPGRADE_FIELDS = new Set(['upgrade', 'http2-settings'])

/** Node's default of the server's `maxHeadersCount`. */
const DEFAULT_MAX_HEADERS = 1000

const TOO_MANY_FIELDS = refusalResponse({ status: 431, message: 'Too many header fields.', headers: {} })

/**
 * Whether an upgrade to another protocol than WebSocket is ignored even if the server has other listeners: no listener of an
 * HTTP/1 server speaks h2c, and HTTP/1.0 has no upgrade (RFC 9110 section 7.8).
 */
export function isIgnored(request: IncomingMessage): boolean {
  return request.httpVersionMinor === 0 || asksForH2cOnly(request)
}

/**
 * Ignores the upgrade of a request and serves it as an ordinary request, RFC 9110 section 7.8. The HTTP parser has
 * detached from the socket. So the head, without the upgrade, and the body are put back before the bytes that follow
 * them, and the socket is passed to the server as a new connection.
 * @param rest the bytes that follow the request.
 */
export function serveOrdinarily(
  server: Server,
  request: IncomingMessage,
  socket: Duplex,
  rest: Buffer
): void {
  const onError = (): void => {}
  socket.on('error', onError)
  if (isCutShort(server, request)) {
    socket.end(TOO_MANY_FIELDS, () => socket.destroy())
    return
  }
  if (!request.complete) {
    serveUnfinished(server, request)
    return
  }
  afterResponses(request, socket, () => {
    socket.off('error', onError)
    if (rest.length > 0) socket.unshift(rest)
    socket.unshift(Buffer.concat([Buffer.from(headWithoutUpgrade(request), 'latin1'), takeBody(request)]))
    server.emit(socket instanceof TLSSocket ? 'secureConnection' : 'connection', socket)
  })
}

/**
 * Node 26 reads the body of a request that asks for an upgrade, and emits the event before the body is complete. Until then
 * the parser has the socket, so the request object itself is served. The connection ends after the response: bytes that the
 * parser has read after the body cannot be put back.
 */
function serveUnfinished(server: Server, request: IncomingMessage): void {
  const { socket } = request
  removeUpgrade(request)
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  afterResponses(request, socket, () => {
    response.assignSocket(socket)
    response.once('finish', () => {
      response.detachSocket(socket)
      socket.destroySoon()
    })
    // Node removes its own listeners once the body is complete.
    socket.on('error', () => {})
    socket.on('drain', () => response.emit('drain'))
    socket.once('timeout', () => socket.destroy())
    socket.once('close', () => request.destroy())
    if (request.headers.expect?.toLowerCase() === '100-continue') response.writeContinue()
    server.emit('request', request, response)
  })
}

/**
 * Whether Node may have dropped header fields. It parses the request with all of them. If the head that is put back lacked
 * the Content-Length, the body would be read as another request.
 */
function isCutShort({ maxHeadersCount }: Server, { rawHeaders }: IncomingMessage): boolean {
  const limit = typeof maxHeadersCount === 'number' ? maxHeadersCount : DEFAULT_MAX_HEADERS
  return limit > 0 && rawHeaders.length >= 2 * limit
}

function headWithoutUpgrade(request: IncomingMessage): string {
  const { method, url, httpVersion } = request
  const fields = fieldsWithoutUpgrade(request)
  let head = `${method} ${url} HTTP/${httpVersion}\r\n`
  for (let i = 0; i < fields.length; i += 2) head += `${fields[i]}: ${fields[i + 1]}\r\n`
  return `${head}\r\n`
}

function removeUpgrade(request: IncomingMessage): void {
  const { headers, headersDistinct } = request
  request.rawHeaders = fieldsWithoutUpgrade(request)
  const connections = request.rawHeaders.filter(
    (_value, i, fields) => i % 2 === 1 && fields[i - 1].toLowerCase() === 'connection'
  )
  const removed = connections.length > 0 ? [...UPGRADE_FIELDS] : [...UPGRADE_FIELDS, 'connection']
  Object.assign(headers, { connection: connections.join(', ') })
  Object.assign(headersDistinct, { connection: connections })
  for (const name of removed) {
    delete headers[name]
    delete headersDistinct[name]
  }
}

/** Names and values alternate, as in `rawHeaders`. */
function fieldsWithoutUpgrade({ rawHeaders }: IncomingMessage): string[] {
  const fields: string[] = []
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]
    const field = name.toLowerCase()
    if (UPGRADE_FIELDS.has(field)) continue
    const value = field === 'connection' ? connectionWithoutUpgrade(rawHeaders[i + 1]) : rawHeaders[i + 1]
    if (field !== 'connection' || value !== '') fields.push(name, value)
  }
  return fields
}

function connectionWithoutUpgrade(value: string): string {
  const options = parseTokenList(value) ?? []
  return options.filter(option => !UPGRADE_FIELDS.has(option.toLowerCase())).join(', ')
}

/** The body of a request as it came over the wire, if Node has read it already. */
function takeBody(request: IncomingMessage): Buffer {
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
 * Whether Node reads the body of a request that asks for an upgrade, as it does since version 26. The request object does
 * not show whether an empty body in chunks was read, so a request in memory finds it out.
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
