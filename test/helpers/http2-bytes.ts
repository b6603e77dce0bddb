import { EventEmitter, once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { Test } from 'tap'
import { bytes } from '../protocol/wire.js'
import { withDeadline } from './timeout.js'

// Frames of HTTP/2 built by hand after RFC 9113 section 4.1, for requests that a client of Node does not make.

export const DATA = 0
export const HEADERS = 1
export const RST_STREAM = 3
export const SETTINGS = 4
export const GOAWAY = 7
export const WINDOW_UPDATE = 8

const END_STREAM = 1
const END_HEADERS = 4

export interface Http2Frame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

/** RFC 9113 section 4.1. */
export function http2Frame(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array | string
): Buffer {
  const body = bytes(payload)
  const head = Buffer.alloc(9)
  head.writeUIntBE(body.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return bytes(head, body)
}

/** RFC 7541 section 6.2.2: literal fields without indexing and without Huffman coding, of less than 127 bytes. */
function fields(list: readonly (readonly [string, string])[]): Buffer {
  return bytes(...list.map(([name, value]) => bytes(0, name.length, name, value.length, value)))
}

/** The fields of an extended CONNECT; those with a name of `without` are left out. */
export function connectFields(path: string, without: readonly string[] = []): [string, string][] {
  const all: [string, string][] = [
    [':method', 'CONNECT'],
    [':protocol', 'websocket'],
    [':scheme', 'http'],
    [':path', path],
    [':authority', 'localhost'],
    ['sec-websocket-version', '13']
  ]
  return all.filter(([name]) => !without.includes(name))
}

/** A session without TLS that writes frames of HTTP/2 and reads them. It answers nothing by itself. */
export class Http2Bytes extends EventEmitter {
  readonly frames: Http2Frame[] = []
  readonly #socket: Socket
  #rest: Buffer = Buffer.alloc(0)
  #isClosed = false
  #next = 1

  private constructor(t: Test, socket: Socket) {
    super()
    this.#socket = socket
    socket.on('data', chunk => this.#read(chunk))
    socket.on('error', () => {})
    socket.on('close', () => {
      this.#isClosed = true
      this.emit('news')
    })
    t.teardown(() => socket.destroy())
  }

  /** @param settings the payload of the client's SETTINGS. */
  static async open(t: Test, port: number, settings: Uint8Array = Buffer.alloc(0)): Promise<Http2Bytes> {
    const session = new Http2Bytes(t, connect(port, '127.0.0.1'))
    session.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', http2Frame(SETTINGS, 0, 0, settings))
    await session.find(SETTINGS, 0)
    return session
  }

  #read(chunk: Buffer): void {
    let data = bytes(this.#rest, chunk)
    while (data.length >= 9 && data.length >= 9 + data.readUIntBE(0, 3)) {
      const end = 9 + data.readUIntBE(0, 3)
      const frame = { type: data.readUInt8(3), flags: data.readUInt8(4), stream: data.readUInt32BE(5) }
      this.frames.push({ ...frame, payload: data.subarray(9, end) })
      data = data.subarray(end)
    }
    this.#rest = data
    this.emit('news')
  }

  write(...parts: readonly (string | Uint8Array)[]): void {
    this.#socket.write(bytes(...parts))
  }

  /** Reads nothing any more. */
  pause(): void {
    this.#socket.pause()
  }

  destroy(): void {
    this.#socket.destroy()
  }

  /** The bytes of a HEADERS frame of a new stream. */
  head(
    list: readonly (readonly [string, string])[],
    endStream = false
  ): { readonly stream: number; readonly bytes: Buffer } {
    const stream = this.#next
    this.#next += 2
    const flags = END_HEADERS + (endStream ? END_STREAM : 0)
    return { stream, bytes: http2Frame(HEADERS, flags, stream, fields(list)) }
  }

  /** Sends the head of a request, and `body` behind it in the same write. */
  request(
    list: readonly (readonly [string, string])[],
    body?: string | Uint8Array,
    endStream = false
  ): number {
    const { stream, bytes: head } = this.head(list)
    const data = body === undefined ? [] : [http2Frame(DATA, endStream ? END_STREAM : 0, stream, body)]
    this.write(head, ...data)
    return stream
  }

  /** Takes the next frame of a type on a stream. */
  async find(type: number, stream: number): Promise<Http2Frame> {
    const wait = async (): Promise<Http2Frame> => {
      for (;;) {
        const at = this.frames.findIndex(frame => frame.type === type && frame.stream === stream)
        const [found] = at < 0 ? [] : this.frames.splice(at, 1)
        if (found !== undefined) return found
        if (this.#isClosed) throw new Error(`closed before a frame ${type} on stream ${stream}`)
        await once(this, 'news')
      }
    }
    return withDeadline(wait(), 10_000, `frame ${type} on stream ${stream}`)
  }

  /** How a stream is answered: the status, or the error code of a reset. */
  async answer(stream: number): Promise<string> {
    const wait = async (): Promise<string> => {
      for (;;) {
        for (const { type, stream: on, payload } of this.frames) {
          if (type === GOAWAY) return `goaway ${payload.readUInt32BE(4)}`
          if (on !== stream) continue
          if (type === RST_STREAM) return `reset ${payload.readUInt32BE(0)}`
          if (type === HEADERS) return `status ${statusOf(payload)}`
        }
        if (this.#isClosed) return 'closed'
        await once(this, 'news')
      }
    }
    return withDeadline(wait(), 10_000, `answer on stream ${stream}`)
  }
}

/** RFC 7541 appendix A: the indexed statuses. */
const STATUSES: Readonly<Record<number, number>> = { 8: 200, 12: 400, 13: 404, 14: 500 }

/** The status, which comes first in a head. Node writes one that is not indexed as a literal of three digits or Huffman. */
function statusOf(head: Buffer): number | string {
  const first = head.readUInt8(0)
  return STATUSES[first & 0x7f] ?? head.toString('hex', 0, 6)
}
