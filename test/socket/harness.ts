import { createHash } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import {
  connect as connectHttp2,
  createServer as createHttp2Server,
  type ServerHttp2Stream
} from 'node:http2'
import { type AddressInfo, connect as connectNet, createServer, Socket } from 'node:net'
import { type Duplex, duplexPair } from 'node:stream'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import type { Test } from 'tap'
import { WebSocket as WsClient } from 'ws'
import { PerMessageDeflate } from '../../lib/compression/per-message-deflate.js'
import type { DeflateSettings } from '../../lib/options/table.js'
import type { Role } from '../../lib/protocol/connection.js'
import type { DeflateParameters } from '../../lib/protocol/permessage-deflate.js'
import type { ConnectionSetup, WebSocketSettings } from '../../lib/socket/options.js'
import { WebSocket } from '../../lib/socket/websocket.js'
import { watchProcess } from '../helpers/process.js'
import { ms, withDeadline } from '../helpers/timeout.js'
import { bytes, decode, type FrameShape, frame, type WireFrame } from '../protocol/wire.js'
import { CERTIFICATE, KEY } from './certificate.js'

export type Kind = 'net' | 'tls' | 'memory' | 'http2'
export const KINDS: readonly Kind[] = ['net', 'tls', 'memory', 'http2']

export interface Options
  extends Partial<WebSocketSettings>,
    Partial<Omit<ConnectionSetup<WebSocket>, 'settings'>> {
  readonly deflate?: Deflate | undefined
  readonly onError?: (error: unknown) => void
  readonly onClose?: (code: number) => void
}

export interface Setup extends Options {
  over?: Kind
  /** Whether the tested end of a net or tls connection was created half-open, as in Node's HTTP server. */
  allowHalfOpen?: boolean
  /** Whether the peer keeps its own side open after the tested end has ended. */
  lingers?: boolean
  /** Called with the stream of the tested end before the WebSocket is created. */
  before?: (stream: Duplex, peer: Peer) => void | Promise<void>
}

/** A WebSocket on one end of a connection, and raw bytes on the other. */
export interface Subject {
  readonly socket: WebSocket
  /** The tested end's byte stream. */
  readonly stream: Duplex
  readonly peer: Peer
  /** The calls of `onError`. */
  readonly errors: unknown[]
}

export const MIB = 2 ** 20

/** The error code of HTTP/2, RFC 9113 section 7. */
const CANCEL = 8

export async function connect(t: Test, setup: Setup = {}): Promise<Subject> {
  const { over = 'net', allowHalfOpen = over === 'net', lingers = false, before, ...options } = setup
  const [stream, far] = await ends(t, over, allowHalfOpen)
  const peer = new Peer(far, lingers)
  t.teardown(() => {
    stream.destroy()
    far.destroy()
  })
  await before?.(stream, peer)
  const errors: unknown[] = []
  return { socket: new WebSocket(stream, fill(options, errors)), stream, peer, errors }
}

/** The tested end of a connection without a WebSocket, and its peer. */
export async function streamOf(t: Test, over: Kind): Promise<{ stream: Duplex; peer: Peer }> {
  const [stream, far] = await ends(t, over, true)
  const peer = new Peer(far, false)
  t.teardown(() => {
    stream.destroy()
    far.destroy()
  })
  return { stream, peer }
}

/** The result of a handshake with permessage-deflate. */
export interface Deflate {
  readonly parameters: DeflateParameters
  readonly settings: DeflateSettings
}

export function extensionOf(role: Role, { parameters, settings }: Deflate): PerMessageDeflate {
  return new PerMessageDeflate(role, parameters, settings)
}

export function fill(options: Options, errors: unknown[] = []): ConnectionSetup<WebSocket> {
  const {
    onError = error => errors.push(error),
    onClose,
    role = 'server',
    protocol,
    owner,
    maskingKey,
    deflate,
    extension = deflate && extensionOf(role, deflate),
    ...settings
  } = options
  return {
    role,
    protocol: protocol ?? '',
    ...(maskingKey && { maskingKey }),
    extension,
    settings: {
      maxPayload: MIB,
      closeTimeout: ms(10_000),
      heartbeat: false,
      highWaterMark: 65536,
      maxBufferedAmount: 16 * MIB,
      ...settings
    },
    owner: owner ?? {
      onError: (_socket, error) => onError(error),
      onPeerError: () => {},
      onClose: (_socket, code) => onClose?.(code)
    }
  }
}

async function ends(t: Test, over: Kind, allowHalfOpen: boolean): Promise<[Duplex, Duplex]> {
  if (over === 'memory') return duplexPair()
  return over === 'http2' ? http2Streams(t) : streams(t, over, allowHalfOpen)
}

/** Both ends of a stream of HTTP/2 that was opened with an extended CONNECT, RFC 8441. */
async function http2Streams(t: Test): Promise<[Duplex, Duplex]> {
  const server = createHttp2Server({ settings: { enableConnectProtocol: true } })
  const accepted = new Promise<ServerHttp2Stream>(resolve => server.on('stream', resolve))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const session = connectHttp2(`http://127.0.0.1:${port}`)
  session.on('error', () => {})
  t.teardown(() => {
    session.destroy()
    server.close()
  })
  await once(session, 'remoteSettings')
  const far = session.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/' })
  const near = await accepted
  near.respond({ ':status': 200 })
  await once(far, 'response')
  return [near, far]
}

async function streams(t: Test, over: 'net' | 'tls', allowHalfOpen: boolean): Promise<[Duplex, Duplex]> {
  const server =
    over === 'net'
      ? createServer({ allowHalfOpen })
      : createTlsServer({ key: KEY, cert: CERTIFICATE, allowHalfOpen })
  const accepted = once(server, over === 'net' ? 'connection' : 'secureConnection')
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const target = { port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true }
  const far = over === 'net' ? connectNet(target) : connectTls({ ...target, rejectUnauthorized: false })
  const [near]: unknown[] = await accepted
  if (!(near instanceof Socket)) throw new Error('no socket')
  return [near, far]
}

/** A WebSocket whose peer is a client of `ws`. */
export async function connectWs(t: Test, options: Options = {}) {
  const server = createHttpServer()
  const errors: unknown[] = []
  const accepted = new Promise<WebSocket>(resolve => {
    server.on('upgrade', (request, stream) => {
      const hash = createHash('sha1').update(
        `${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`
      )
      const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade']
      stream.write(`${lines.join('\r\n')}\r\nSec-WebSocket-Accept: ${hash.digest('base64')}\r\n\r\n`)
      t.teardown(() => stream.destroy())
      resolve(new WebSocket(stream, fill(options, errors)))
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const client = new WsClient(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`)
  client.on('error', () => {})
  await withDeadline(once(client, 'open'), 5000, 'open')
  return { socket: await accepted, client, errors }
}

/** The peer: writes and reads frames as bytes, in the role of a client. */
export class Peer extends EventEmitter {
  readonly stream: Duplex
  readonly frames: string[] = []
  /** The opcode and payload of each frame. */
  readonly raw: WireFrame[] = []
  ended = false
  closed = false
  #rest: Buffer = Buffer.alloc(0)

  constructor(stream: Duplex, lingers: boolean) {
    super()
    this.stream = stream
    stream.on('data', (chunk: Buffer) => this.#read(chunk))
    stream.on('end', () => {
      this.ended = true
      if (!lingers) stream.end()
      this.emit('news')
    })
    stream.on('close', () => {
      this.closed = true
      this.emit('news')
    })
    stream.on('error', () => {})
  }

  #read(chunk: Buffer): void {
    const data = Buffer.concat([this.#rest, chunk])
    let at = 0
    for (let size = frameSize(data, at); at + size <= data.length; size = frameSize(data, at)) {
      for (const one of decode(data.subarray(at, at + size))) {
        this.raw.push(one)
        this.frames.push(show(one))
      }
      at += size
    }
    this.#rest = data.subarray(at)
    this.emit('news')
  }

  /** Writes frames in one piece. @returns the result of `write`. */
  send(...frames: readonly Uint8Array[]): boolean {
    return this.stream.write(bytes(...frames))
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!condition()) await once(this, 'news')
    }
    await withDeadline(wait(), 15_000, what)
  }

  /** Returns the next frame. */
  async next(): Promise<string> {
    await this.until(() => this.frames.length > 0, 'a frame')
    return this.frames.shift() ?? ''
  }

  async end(): Promise<void> {
    await this.until(() => this.ended, 'end of the stream')
  }

  async close(): Promise<void> {
    await this.until(() => this.closed, 'close of the stream')
  }

  /** Resets the TCP connection. */
  reset(): void {
    if (this.stream instanceof Socket) this.stream.resetAndDestroy()
    else if ('rstCode' in this.stream) Reflect.apply(Reflect.get(this.stream, 'close'), this.stream, [CANCEL])
  }
}

/** The size of the frame at `at`; infinite while its header is incomplete. */
function frameSize(data: Buffer, at: number): number {
  if (data.length < at + 2) return Infinity
  const second = data.readUInt8(at + 1)
  const key = second < 128 ? 0 : 4
  const short = second % 128
  if (short < 126) return 2 + key + short
  if (short === 126) return data.length < at + 4 ? Infinity : 4 + key + data.readUInt16BE(at + 2)
  return data.length < at + 10 ? Infinity : 10 + key + Number(data.readBigUInt64BE(at + 2))
}

function show({ fin, opcode, payload }: WireFrame): string {
  const name = ['continuation', 'text', 'binary'][opcode] ?? { 8: 'close', 9: 'ping', 10: 'pong' }[opcode]
  const words = fin ? [name] : [name, 'more']
  if (opcode === 8 && payload.length > 0) words.push(`${payload.readUInt16BE(0)}`, `${payload.subarray(2)}`)
  else words.push(payload.toString(opcode === 2 ? 'hex' : 'utf8'))
  return words.join(' ').trimEnd()
}

export const text = (data: string, shape?: FrameShape): Buffer => frame(1, data, shape)
export const binary = (data: Uint8Array, shape?: FrameShape): Buffer => frame(2, data, shape)
export const ping = (data = ''): Buffer => frame(9, data)
export const pong = (data = ''): Buffer => frame(10, data)
export const close = (code?: number, reason = ''): Buffer =>
  frame(8, code === undefined ? '' : bytes(code >> 8, code & 255, reason))

/** `prefix0`, `prefix1`, … */
export function texts(count: number, prefix = ''): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix}${i}`)
}

/** The arguments of the next such event. Unlike `once` of Node it adds no listener of `error`. */
export function nextEvent<Result extends unknown[] = unknown[]>(emitter: EventEmitter, event: string) {
  const args = new Promise<unknown[]>(resolve => emitter.once(event, (...args) => resolve(args)))
  return withDeadline(args, 15_000, event) as Promise<Result>
}

/** The code and reason of the close event. */
export async function closing(socket: WebSocket): Promise<string> {
  const [code, reason] = await nextEvent<[number, Buffer]>(socket, 'close')
  return `${code} ${reason}`.trimEnd()
}

/** A round trip on another connection: bytes that were in transit before have arrived by then. */
export async function roundTrip(t: Test, over: Kind = 'net'): Promise<void> {
  const { socket, peer } = await connect(t, { over })
  socket.readAlways()
  for (const data of ['one', 'two']) {
    peer.send(ping(data))
    await peer.next()
  }
  peer.stream.end()
  await nextEvent(socket, 'close')
}

/** The writes of a stream, as the bytes of each call of `_write` or `_writev`. */
export function spyOnWrites(stream: Duplex): Buffer[] {
  const writes: Buffer[] = []
  const { _write, _writev } = stream
  stream._write = (chunk, encoding, callback) => {
    writes.push(Buffer.from(chunk))
    Reflect.apply(_write, stream, [chunk, encoding, callback])
  }
  if (_writev) {
    stream._writev = (chunks, callback) => {
      writes.push(bytes(...chunks.map(({ chunk }) => chunk as Buffer)))
      Reflect.apply(_writev, stream, [chunks, callback])
    }
  }
  return writes
}

export const tick = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

/** Records calls in order. */
export class Calls {
  readonly lines: string[] = []
  note(name: string): (error?: Error) => void {
    return error => void this.lines.push(error ? `${name} ${Reflect.get(error, 'code')}` : name)
  }
}

export const NOT_OPEN = 'FST_UPGRADE_NOT_OPEN'

/** A text message that is longer than the longest string (512 MiB). */
export function endlessText(): Buffer {
  return Object.assign(Buffer.from('text'), {
    toString(): string {
      throw new RangeError('ERR_STRING_TOO_LONG')
    }
  })
}

/** Stops the peer from reading, and sends until this number of bytes is pending. */
export async function stalled(subject: Subject, bytes: number): Promise<void> {
  subject.peer.stream.pause()
  const chunk = Buffer.alloc(MIB)
  while (subject.socket.bufferedAmount < bytes) {
    subject.socket.send(chunk)
    await tick()
  }
}

export { watchProcess }
