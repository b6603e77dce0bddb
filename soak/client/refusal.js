// Handshakes that a server refuses, with the expected status.

/**
 * @typedef {object} Refusal
 * @property {number} status
 * @property {string} [path]
 * @property {string} [method]
 * @property {string} [query]
 * @property {Record<string, string | undefined>} [fields]
 */

/** @type {readonly Refusal[]} */
export const REFUSALS = [
  { status: 426, fields: { 'Sec-WebSocket-Version': '8' } },
  { status: 404, path: '/nowhere' },
  { status: 403, fields: { Origin: 'http://elsewhere.test' } },
  { status: 400, fields: { 'Sec-WebSocket-Key': 'short' } },
  { status: 405, method: 'POST', fields: { 'Content-Length': '0' } },
  { status: 401, query: '&how=denied' },
  // An ordinary request.
  {
    status: 426,
    fields: {
      Upgrade: undefined,
      Connection: 'close',
      'Sec-WebSocket-Key': undefined,
      'Sec-WebSocket-Version': undefined
    }
  }
]
