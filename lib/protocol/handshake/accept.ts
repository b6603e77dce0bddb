import { hash } from 'node:crypto'

/** The GUID that RFC 6455 section 1.3 fixes. */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'

/** `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`, RFC 6455 section 4.2.2. */
export function acceptValue(key: string): string {
  return hash('sha1', key + GUID, 'base64')
}

/**
 * Whether a key is the base64 of 16 bytes (RFC 6455 section 4.2.1): 22 characters and `==`. The last character has four
 * bits to spare. Clients set them at will, as in the key "AQIDBAUGBwgJCgsMDQ4PEC==" of section 4.1, and a decoder may
 * ignore them (RFC 4648 section 3.5).
 */
export function isKey(key: string): boolean {
  if (key.length !== 24 || !key.endsWith('==')) return false
  for (let i = 0; i < 22; i++) {
    if (!isBase64Char(key.charCodeAt(i))) return false
  }
  return true
}

function isBase64Char(code: number): boolean {
  return (
    (code >= 0x41 && code <= 0x5a) ||
    (code >= 0x61 && code <= 0x7a) ||
    (code >= 0x30 && code <= 0x39) ||
    code === 0x2b ||
    code === 0x2f
  )
}
