import { type IncomingMessage, type Server, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { parseTokenList } from '../core/token.js'
import { refusalResponse } from './refusal.js'

/** Fields that make the request one for an upgrade, RFC 9110 section 7.8 and RFC 7540 section 3.2.1. */
const UPGRADE_FIELDS = new Set(['upgrade', 'http2-settings'])

/** What Node keeps unless `maxHeadersCount` of the server says otherwise. */
const DEFAULT_MAX_HEADERS = 1000

const TOO_MANY_FIELDS = refusalResponse({ status: 431, message: 'Too many header fields.', headers: {} })

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
  afterResponses(request, socket, () => {
    socket.off('error', onError)
    if (rest.length > 0) socket.unshift(rest)
    socket.unshift(Buffer.from(headWithoutUpgrade(request), 'latin1'))
    server.emit(socket instanceof TLSSocket ? 'secureConnection' : 'connection', socket)
  })
}

/**
 * Calls back once the responses to earlier requests on the same connection are sent, if it is still open then.
 * @param socket the socket that came with the upgrade. While the body of the request is incomplete, Node 26 makes that a
 * stream around the socket of the connection, which is the one that has the responses.
 */
export function afterResponses(request: IncomingMessage, socket: Duplex, callback: () => void): void {
  const earlier: unknown = Reflect.get(request.socket, '_httpMessage')
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

function headWithoutUpgrade({ method, url, httpVersion, rawHeaders }: IncomingMessage): string {
  let head = `${method} ${url} HTTP/${httpVersion}\r\n`
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]
    const field = name.toLowerCase()
    if (UPGRADE_FIELDS.has(field)) continue
    const value = field === 'connection' ? connectionWithoutUpgrade(rawHeaders[i + 1]) : rawHeaders[i + 1]
    if (field !== 'connection' || value !== '') head += `${name}: ${value}\r\n`
  }
  return `${head}\r\n`
}

function connectionWithoutUpgrade(value: string): string {
  const options = parseTokenList(value) ?? []
  return options.filter(option => !UPGRADE_FIELDS.has(option.toLowerCase())).join(', ')
}
