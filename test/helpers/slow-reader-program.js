// A WebSocket client that reads a limited number of bytes per second from its socket, in its own process. It answers pings
// and the Close frame, and writes one line of JSON when its connection has ended.
//
// node slow-reader-program.js '{"port":3000,"rate":10000}'; the options are those of `SlowReaderOptions` in slow-reader.ts.

import { connect as connectTcp } from 'node:net'
import { Duplex } from 'node:stream'
import { connect as connectTls } from 'node:tls'

const { port, host = '127.0.0.1', path = '/', rate, secure = false, says = 0 } = JSON.parse(process.argv[2])

/** The number of reads per second. */
const READS = 20

const tcp = connectTcp({
  port,
  host,
  onread: {
    buffer: Buffer.alloc(Math.ceil(rate / READS)),
    callback(size, buffer) {
      // The rest stays in the kernel, whose window closes.
      setTimeout(() => tcp.resume(), 1000 / READS)
      onBytes(Buffer.from(buffer.subarray(0, size)))
      return false
    }
  }
})

let onBytes = receive
let stream = tcp
if (secure) {
  const raw = new Duplex({
    read() {},
    write: (chunk, _encoding, callback) => void tcp.write(chunk, callback),
    final: callback => void tcp.end(callback)
  })
  onBytes = chunk => raw.push(chunk)
  tcp.on('end', () => raw.push(null))
  stream = connectTls({ socket: raw, rejectUnauthorized: false })
  stream.on('data', receive)
}

let head = ''
let rest = Buffer.alloc(0)
/** Remaining bytes of the message. */
let missing = 0
const seen = { payload: 0, pings: 0, close: 0 }

stream.on('error', () => {})
tcp.on('error', () => {})
tcp.on('close', () => {
  process.stdout.write(`${JSON.stringify(seen)}\n`, () => process.exit())
})
stream.write(
  `GET ${path} HTTP/1.1\r\nHost: slow.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
    'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n'
)
if (says > 0) setInterval(() => send(1, Buffer.from('typing')), says).unref()

/** A masked frame; a key of zeros changes nothing. */
function send(opcode, payload) {
  if (head === undefined)
    stream.write(Buffer.concat([Buffer.of(128 | opcode, 128 | payload.length, 0, 0, 0, 0), payload]))
}

function receive(chunk) {
  let data = chunk
  if (head !== undefined) {
    head += chunk.toString('latin1')
    const end = head.indexOf('\r\n\r\n')
    if (end < 0) return
    data = Buffer.from(head.slice(end + 4), 'latin1')
    head = undefined
  }
  rest = Buffer.concat([rest, data])
  while (takeFrame());
}

/** Takes the next frame, or the available part of the payload of a message. */
function takeFrame() {
  if (missing > 0) {
    const size = Math.min(missing, rest.length)
    rest = rest.subarray(size)
    missing -= size
    seen.payload += size
    return size > 0
  }
  if (rest.length < 2) return false
  const opcode = rest[0] & 15
  const short = rest[1]
  const start = short < 126 ? 2 : short === 126 ? 4 : 10
  if (rest.length < start) return false
  const size = short < 126 ? short : short === 126 ? rest.readUInt16BE(2) : Number(rest.readBigUInt64BE(2))
  if (opcode < 8) missing = size
  else if (rest.length < start + size) return false
  const payload = rest.subarray(start, start + size)
  rest = rest.subarray(opcode < 8 ? start : start + size)
  if (opcode === 9) {
    seen.pings++
    send(10, payload)
  } else if (opcode === 8) {
    seen.close = size < 2 ? 1005 : payload.readUInt16BE()
    send(8, payload)
  }
  return true
}
