import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { TLSSocket } from 'node:tls'
import { parseTokenList } from '../core/token.js'

/** Fields that make the request one for an upgrade, RFC 9110 section 7.8 and RFC 7540 section 3.2.1. */
const UPGRADE_FIELDS = new Set(['upgrade', 'http2-settings'])

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
  if (rest.length > 0) socket.unshift(rest)
  socket.unshift(Buffer.from(headWithoutUpgrade(request), 'latin1'))
  server.emit(socket instanceof TLSSocket ? 'secureConnection' : 'connection', socket)
}

function headWithoutUpgrade({ method, url, httpVersion, rawHeaders }: IncomingMessage): string {
  let head = `${method} ${url} HTTP/${httpVersion}\r\n`
  for (let i = 0; i + 1 < rawHeaders.length; i += 2) {
    const name = rawHeaders[i]
    const field = name.toLowerCase()
    if (UPGRADE_FIELDS.has(field)) continue
    const value = field === 'connection' ? connectionWithoutUpgrade(rawHeaders[i + 1]) : rawHeaders[i + 1]
    if (value !== '') head += `${name}: ${value}\r\n`
  }
  return `${head}\r\n`
}

function connectionWithoutUpgrade(value: string): string {
  const options = parseTokenList(value) ?? []
  return options.filter(option => !UPGRADE_FIELDS.has(option.toLowerCase())).join(', ')
}
