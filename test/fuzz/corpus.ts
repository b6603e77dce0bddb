import { constants, deflateRawSync } from 'node:zlib'
import { handshake, KEY, PAGE_HANDSHAKE } from '../helpers/app.js'
import { bytes, frame } from '../protocol/wire.js'

/** The data of a client: a head, and the bytes after it. */
export interface Conversation {
  readonly head: Buffer
  readonly rest: readonly Buffer[]
}

const close = frame(8, bytes(0x03, 0xe8, 'bye'))
const hello = frame(1, 'hello')
const fragments = [
  frame(1, 'frag', { fin: false }),
  frame(9, 'between'),
  frame(0, 'men', { fin: false }),
  frame(0, 'ts €')
]
/** Three messages, and a Close. */
export const CHAT: readonly Buffer[] = [
  hello,
  frame(2, Buffer.alloc(300, 7)),
  frame(9, 'ping'),
  ...fragments,
  frame(10, ''),
  close
]
const LARGE = [
  frame(2, Buffer.alloc(65536, 1)),
  frame(1, 'a'.repeat(20_000)),
  frame(9, ''),
  frame(2, Buffer.alloc(65537))
]

const deflated = (text: string | Buffer, end = -4): Buffer =>
  deflateRawSync(text, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, end)
const compressed = (payload: Buffer) => frame(1, payload, { rsv: 4 })
const PRESSED = [
  compressed(deflated('hello hello hello hello')),
  frame(1, deflated('in two').subarray(0, 4), { rsv: 4, fin: false }),
  frame(0, deflated('in two').subarray(4)),
  compressed(deflated('z'.repeat(60_000))),
  compressed(deflateRawSync('final')),
  hello,
  frame(2, deflated(Buffer.alloc(20_000, 3)), { rsv: 4 }),
  compressed(deflated('b'.repeat(1_000_000))),
  close
]

export const ws = (
  path: string,
  rest: readonly Buffer[],
  fields: Record<string, string | undefined> = {}
): Conversation => ({
  head: Buffer.from(handshake(path, fields)),
  rest
})

const DEFLATE = { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' }
const CHOICE = 'permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=10'

/** Requests that are hidden in the data of another request. */
export const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n'
const bodied = { 'Content-Length': String(SMUGGLED.length) }
const http = (line: string, fields: string, body = ''): Buffer =>
  Buffer.from(`${line} HTTP/1.1\r\nHost: localhost\r\n${fields}\r\n${body}`)
const h2c =
  'Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n'
const chunked = `${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n0\r\n\r\n`

/** The hidden request in these must never run. */
export const BODIES: readonly Conversation[] = [
  ws('/echo', [Buffer.from(SMUGGLED)], bodied),
  ws('/refuse', [Buffer.from(SMUGGLED)], bodied),
  ws('/nowhere', [Buffer.from(SMUGGLED)], bodied),
  ws('/echo', [Buffer.from(SMUGGLED)], { ...bodied, 'Sec-WebSocket-Version': '12' }),
  ws('/echo', [Buffer.from(chunked)], { 'Transfer-Encoding': 'chunked' }),
  ws('/hooks', [Buffer.from(SMUGGLED)]),
  { head: http('POST /state', `${h2c}Content-Length: ${SMUGGLED.length}\r\n`, SMUGGLED), rest: [] },
  { head: http('POST /state', `${h2c}Transfer-Encoding: chunked\r\n`, chunked), rest: [] },
  { head: http('POST /state', `Content-Length: ${SMUGGLED.length}\r\n`, SMUGGLED), rest: [] }
]

export const CORPUS: readonly Conversation[] = [
  ws('/echo', CHAT),
  ws('/echo', [...CHAT.slice(0, -1), ...LARGE]),
  ws('/iterate', CHAT),
  ws('/iterate', LARGE),
  ws('/stream', CHAT),
  ws('/stream', LARGE),
  ws('/pipe', [...CHAT, ...LARGE]),
  ws('/sub', CHAT, { 'Sec-WebSocket-Protocol': 'unknown, chat.v1, other' }),
  ws('/sub', CHAT, { 'Sec-WebSocket-Protocol': 'other' }),
  ws('/select', CHAT, { 'Sec-WebSocket-Protocol': 'a, b' }),
  ws('/deflate', PRESSED, DEFLATE),
  ws('/deflate', PRESSED, { 'Sec-WebSocket-Extensions': CHOICE }),
  ws('/takeover', PRESSED, DEFLATE),
  ws('/small', [frame(1, 'a'.repeat(64)), ...PRESSED.slice(0, 3), frame(1, 'b'.repeat(65))], DEFLATE),
  ws('/late', CHAT),
  ws('/hooks', CHAT),
  ws('/timeout', CHAT),
  ws('/refuse', CHAT),
  ws('/throws', CHAT),
  ws('/rejects', CHAT),
  ws('/listener', CHAT),
  ws('/closes', CHAT),
  ws('/nowhere', CHAT),
  ws('/echo', CHAT, { Origin: 'http://localhost', Cookie: 'a=b', 'User-Agent': 'x'.repeat(500) }),
  ws('/echo', CHAT, { Origin: 'http://elsewhere.example' }),
  { head: Buffer.from(PAGE_HANDSHAKE.replace('/chatsocket', '/deflate')), rest: PRESSED },
  // Pipelined requests.
  { head: bytes(http('GET /state', ''), handshake('/echo')), rest: CHAT },
  { head: bytes(handshake('/echo'), handshake('/echo')), rest: CHAT },
  { head: bytes(handshake('/refuse'), handshake('/echo')), rest: CHAT },
  { head: bytes(http('GET /state', h2c), handshake('/echo')), rest: CHAT },
  {
    head: bytes(http('POST /state', `${h2c}Content-Length: 4\r\n`, 'body'), handshake('/iterate')),
    rest: CHAT
  },
  { head: http('GET /echo', ''), rest: CHAT },
  {
    head: http('POST /echo', `Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${KEY}\r\n`),
    rest: []
  },
  ...BODIES
]
