import { type IncomingMessage, type Server, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { asksForH2cOnly } from '../protocol/handshake/request.js'
import { parseTokenList } from '../protocol/handshake/token.js'
import { refusalResponse } from './refusal.js'
import { takeBody } from './request-body.js'

/** Fields that make the request one for an upgrade, RFC 9110 section 7.8 and RFC 7540 section 3.2.1. */
const UPGRADE_FIELDS = new Set(['upgrade', 'http2-settings'])

/** What Node keeps unless `maxHeadersCount` of the server says otherwise. */
const DEFAULT_MAX_HEADERS = 1000

const TOO_MANY_FIELDS = refusalResponse({ status: 431, message: 'Too many header fields.', headers: {} })

/**
 * Whether an upgrade to another protocol than WebSocket is ignored, whichever listeners there are: no listener speaks h2c on
 * a server of HTTP/1, and in HTTP/1.0 there is no upgrade (RFC 9110 section 7.8).
 */
export function isIgnored(request: IncomingMessage): boolean {
  return request.httpVersionMinor === 0 || asksForH2cOnly(request)
}

/**
 * Serves a request whose upgrade is ignored as the ordinary request that it is, RFC 9110 section 7.8. Its socket has left
 * the HTTP parser already, so the head goes back in front of what follows it, without the upgrade, and the socket goes
 * back to the server.
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
 * Node 26 reads the body of a request that asks for an upgrade, and emits the event before the body is complete. The parser
 * has the socket until then, so the request itself is served. The connection ends after the response: what the parser
 * leaves behind the body cannot be handed back.
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
    // Node takes its own listeners away once the body is complete.
    socket.on('error', () => {})
    socket.on('drain', () => response.emit('drain'))
    socket.once('timeout', () => socket.destroy())
    socket.once('close', () => request.destroy())
    if (request.headers.expect?.toLowerCase() === '100-continue') response.writeContinue()
    server.emit('request', request, response)
  })
}

/**
 * Calls back once the responses to earlier requests on the same connection are sent, if it is still open then.
 * @param socket the socket that came with the upgrade. While the body of the request is incomplete, Node 26 makes that a
 * stream around the socket of the connection, which is the one that has the responses.
 */
export function afterResponses(request: IncomingMessage, socket: Duplex, callback: () => void): void {
  // A request that did not come from Node, for `handleUpgrade` of `ws`, may have none.
  const carrier: Duplex | undefined = request.socket
  const earlier: unknown = Reflect.get(carrier ?? socket, '_httpMessage')
  if (earlier instanceof ServerResponse) {
    earlier.once('close', () => afterResponses(request, socket, callback))
  } else if (socket.writable) callback()
}

/**
 * Whether Node may have dropped fields of the head. It parsed the request with all of them; without a Content-Length that
 * was dropped, its body would be taken for another request.
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

/** Names and values in turn. */
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
