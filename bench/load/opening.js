const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='
const OFFER = 'permessage-deflate; client_no_context_takeover; server_no_context_takeover'

/**
 * The opening handshake of a client.
 * @param {{ port: number, path: string, deflate: boolean }} options
 */
export function makeRequest({ port, path, deflate }) {
  return makeHead(path, { ...openingFields(port), 'Sec-WebSocket-Extensions': deflate ? OFFER : undefined })
}

/**
 * @param {number} port
 * @returns {Record<string, string | undefined>}
 */
export function openingFields(port) {
  return {
    Host: `127.0.0.1:${port}`,
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Key': KEY,
    'Sec-WebSocket-Version': '13'
  }
}

/**
 * The head of a request; a field that is undefined is left out.
 * @param {string} path
 * @param {Record<string, string | undefined>} fields
 * @param {string} method
 */
export function makeHead(path, fields, method = 'GET') {
  const lines = [`${method} ${path} HTTP/1.1`]
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) lines.push(`${name}: ${value}`)
  return `${lines.join('\r\n')}\r\n\r\n`
}

/**
 * Throws when the server's answer is not the one asked for.
 * @param {string} response its status line and headers.
 * @param {boolean} deflate whether it has to compress.
 */
export function checkResponse(response, deflate) {
  const [status] = response.split('\r\n', 1)
  if (!status.startsWith('HTTP/1.1 101')) throw new Error(`the server answered «${status}»`)
  if (!response.includes(ACCEPT)) throw new Error('the server sent a wrong Sec-WebSocket-Accept')
  if (deflate && !response.includes('permessage-deflate')) throw new Error('the server does not compress')
}
