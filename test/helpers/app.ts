import { EventEmitter, once } from 'node:events'
import type { Server } from 'node:http'
import { connect, type Socket } from 'node:net'
import { Writable } from 'node:stream'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'
import Fastify, { type FastifyHttpOptions, type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { WebSocket } from 'ws'
import upgrade, { type FastifyUpgradeOptions } from '../../lib/index.js'
import { bytes, decode, frame, type WireFrame } from '../protocol/wire.js'
import { watchProcess } from './process.js'
import { ms, withDeadline } from './timeout.js'

export type LogLine = Readonly<Record<string, unknown>> & { readonly level: number; readonly msg: string }

/** Pino's levels. */
export const DEBUG = 20
export const INFO = 30
export const WARN = 40
export const ERROR = 50

/** A log line of an application. */
export class Log extends EventEmitter {
  readonly lines: LogLine[] = []
  readonly stream: Writable = new Writable({
    write: (chunk, _encoding, done) => {
      this.lines.push(JSON.parse(String(chunk)))
      this.emit('line')
      done()
    }
  })

  with(msg: string): LogLine[] {
    return this.lines.filter(line => line.msg === msg)
  }

  at(level: number): LogLine[] {
    return this.lines.filter(line => line.level === level)
  }

  /** Resolves when there is a line with this message. */
  async until(msg: string): Promise<LogLine> {
    const wait = async (): Promise<LogLine> => {
      for (;;) {
        const [line] = this.with(msg)
        if (line !== undefined) return line
        await once(this, 'line')
      }
    }
    return withDeadline(wait(), 10_000, `log line "${msg}"`)
  }
}

export interface App {
  readonly app: FastifyInstance
  readonly log: Log
}

/** An application with the plugin, closed at the end of the test. */
export async function makeApp(
  t: Test,
  options: FastifyUpgradeOptions = {},
  server: FastifyHttpOptions<Server> = {}
): Promise<App> {
  const { app, log } = bareApp(t, server)
  await app.register(upgrade, options)
  return { app, log }
}

/** The same without the plugin. */
export function bareApp(t: Test, server: FastifyHttpOptions<Server> = {}): App {
  const log = new Log()
  const app: FastifyInstance = Fastify({ logger: { level: 'debug', stream: log.stream }, ...server })
  t.teardown(() => app.close())
  return { app, log }
}

/** Listens on a free port and returns it. */
export async function listen(app: FastifyInstance, host = '127.0.0.1'): Promise<number> {
  await app.listen({ port: 0, host })
  return portOf(app)
}

export function portOf(app: FastifyInstance): number {
  const address = app.server.address()
  if (address === null || typeof address === 'string') throw new Error('the server does not listen on a port')
  return address.port
}

/** Options of a client of `ws`. */
export interface OpenOptions {
  readonly protocols?: string[]
  readonly headers?: Readonly<Record<string, string>>
  readonly origin?: string
  readonly host?: string
  readonly localAddress?: string
  /** Connects over TLS and accepts any certificate. */
  readonly secure?: boolean
}

/** Opens a client of `ws`. */
export async function open(t: Test, port: number, path: string, options: OpenOptions = {}): Promise<Client> {
  const client = new Client(t, port, path, options)
  await client.opened()
  return client
}

/** A client of `ws` that keeps the messages that it receives. */
export class Client extends EventEmitter {
  readonly socket: WebSocket
  readonly messages: string[] = []
  /** The headers of the 101. */
  headers: Readonly<Record<string, string | string[] | undefined>> = {}
  #closing: string | undefined

  constructor(t: Test, port: number, path: string, { protocols, headers, ...options }: OpenOptions = {}) {
    super()
    const { host = '127.0.0.1', secure = false, ...rest } = options
    const url = `${secure ? 'wss' : 'ws'}://${host}:${port}${path}`
    const tls = secure ? { rejectUnauthorized: false } : {}
    this.socket = new WebSocket(url, protocols ?? [], { ...rest, ...tls, headers: { ...headers } })
    this.socket.on('upgrade', response => {
      this.headers = response.headers
    })
    this.socket.on('message', data => {
      this.messages.push(String(data))
      this.emit('news')
    })
    this.socket.on('close', (code, reason) => {
      this.#closing = `${code} ${reason}`.trimEnd()
      this.emit('news')
    })
    this.socket.on('error', () => {})
    t.teardown(() => this.socket.terminate())
  }

  async opened(): Promise<void> {
    await withDeadline(once(this.socket, 'open'), 10_000, 'open')
  }

  async #until<Value>(value: () => Value | undefined, what: string): Promise<Value> {
    const wait = async (): Promise<Value> => {
      for (;;) {
        const found = value()
        if (found !== undefined) return found
        await once(this, 'news')
      }
    }
    return withDeadline(wait(), 10_000, what)
  }

  /** Takes the next message. */
  async next(): Promise<string> {
    return this.#until(() => this.messages.shift(), 'message')
  }

  /** The code and reason, when the connection is closed. */
  async closed(): Promise<string> {
    return this.#until(() => this.#closing, 'close')
  }
}

/** A response as it was sent. */
export interface RawResponse {
  readonly status: number
  /** By name in lower case; several values of a name in order. */
  readonly headers: ReadonlyMap<string, readonly string[]>
  readonly head: string
  readonly body: string
}

/** The value of a header that occurs once. */
export function headerOf(response: RawResponse, name: string): string | undefined {
  const values = response.headers.get(name) ?? []
  if (values.length > 1) throw new Error(`${name} occurs ${values.length} times`)
  return values[0]
}

/** The `code` of an error in JSON. */
export function codeOf({ body }: RawResponse): unknown {
  return JSON.parse(body).code
}

export const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
export const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo='

/** The head of a handshake, RFC 6455 section 1.2; a field that is undefined is left out. */
export function handshake(path: string, fields: Readonly<Record<string, string | undefined>> = {}): string {
  const all: Readonly<Record<string, string | undefined>> = {
    Host: 'localhost',
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Key': KEY,
    'Sec-WebSocket-Version': '13',
    ...fields
  }
  let head = `GET ${path} HTTP/1.1\r\n`
  for (const [name, value] of Object.entries(all)) if (value !== undefined) head += `${name}: ${value}\r\n`
  return `${head}\r\n`
}

/** The request that a page of http://localhost:63342 sent to a chat on port 8002. */
export const PAGE_HANDSHAKE = [
  'GET /chatsocket HTTP/1.1',
  'Host: 127.0.0.1:8002',
  'Connection: Upgrade',
  'Pragma: no-cache',
  'Cache-Control: no-cache',
  'Upgrade: websocket',
  'Origin: http://localhost:63342',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: mnwFxiOlctXFN/DeMt1Amg==',
  'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits',
  '\r\n'
].join('\r\n')
// printf '%s' mnwFxiOlctXFN/DeMt1Amg==258EAFA5-E914-47DA-95CA-C5AB0DC85B11 | openssl sha1 -binary | base64
export const PAGE_ACCEPT = 'oRjiwsm8ZS/eLqIQ6p82z1wgGHE='

/** A client that writes and reads bytes. It does nothing by itself; it does not even end its side. */
export class RawClient extends EventEmitter {
  readonly socket: Socket
  /** Data that has arrived and was not taken. */
  data: Buffer = Buffer.alloc(0)
  ended = false
  closed = false

  constructor(t: Test, socket: Socket) {
    super()
    this.socket = socket
    socket.on('data', (chunk: Buffer) => {
      this.data = bytes(this.data, chunk)
      this.emit('news')
    })
    socket.on('end', () => {
      this.ended = true
      this.emit('news')
    })
    socket.on('close', () => {
      this.closed = true
      this.emit('news')
    })
    socket.on('error', () => {})
    t.teardown(() => socket.destroy())
  }

  write(...parts: readonly (string | Uint8Array)[]): void {
    this.socket.write(bytes(...parts))
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!condition()) {
        if (this.closed) throw new Error(`closed before: ${what}; got ${JSON.stringify(String(this.data))}`)
        await once(this, 'news')
      }
    }
    await withDeadline(wait(), 10_000, what)
  }

  /** Takes a response: its head, and the body that `Content-Length` announces. */
  async response(): Promise<RawResponse> {
    const response = await this.head()
    const length = Number(response.headers.get('content-length')?.[0] ?? 0)
    await this.until(() => this.data.length >= length, 'body of a response')
    const body = this.data.toString('utf8', 0, length)
    this.data = this.data.subarray(length)
    return { ...response, body }
  }

  /** Takes the head of a response. */
  async head(): Promise<RawResponse> {
    await this.until(() => this.data.includes('\r\n\r\n'), 'head of a response')
    const end = this.data.indexOf('\r\n\r\n')
    const head = this.data.toString('latin1', 0, end)
    this.data = this.data.subarray(end + 4)
    const [statusLine = '', ...lines] = head.split('\r\n')
    const headers = new Map<string, string[]>()
    for (const line of lines) {
      const colon = line.indexOf(':')
      const name = line.slice(0, colon).toLowerCase()
      headers.set(name, [...(headers.get(name) ?? []), line.slice(colon + 1).trim()])
    }
    return { status: Number(statusLine.split(' ')[1]), headers, head, body: '' }
  }

  /** Takes the next frame, which must be short. */
  async frame(): Promise<WireFrame> {
    const size = (): number => (this.data.length < 2 ? Infinity : 2 + (this.data.readUInt8(1) % 128))
    await this.until(() => this.data.length >= size(), 'frame')
    const at = size()
    const [first] = decode(this.data.subarray(0, at))
    this.data = this.data.subarray(at)
    if (first === undefined) throw new Error('no frame')
    return first
  }

  /** The server has ended its side. */
  async end(): Promise<void> {
    await this.until(() => this.ended, 'end')
  }

  /** The connection is gone: data that a client still writes after an end is answered with a reset. */
  async gone(): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!this.closed) {
        const probes = this.ended && this.socket.writable
        if (probes) this.socket.write('x')
        await (probes ? tick() : once(this, 'news'))
      }
    }
    await withDeadline(wait(), 10_000, 'cut')
  }
}

/** A new connection, over TLS if requested. */
export async function connectRaw(
  t: Test,
  port: number,
  { host = '127.0.0.1', tls }: { readonly host?: string; readonly tls?: ConnectionOptions } = {}
): Promise<RawClient> {
  const target = { port, host, allowHalfOpen: true, noDelay: true }
  const socket =
    tls === undefined ? connect(target) : connectTls({ ...target, rejectUnauthorized: false, ...tls })
  const client = new RawClient(t, socket)
  await withDeadline(once(socket, tls === undefined ? 'connect' : 'secureConnect'), 5_000, 'connect')
  return client
}

/** The response to a handshake. */
export async function shake(
  t: Test,
  port: number,
  path: string,
  fields?: Readonly<Record<string, string | undefined>>
): Promise<RawResponse> {
  const client = await connectRaw(t, port)
  client.write(handshake(path, fields))
  const response = await client.response()
  client.socket.end()
  return response
}

/** The response to an ordinary request, on its own connection. */
export async function request(t: Test, port: number, method: string, path: string): Promise<RawResponse> {
  const client = await connectRaw(t, port)
  client.write(`${method} ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`)
  const response = method === 'HEAD' ? await headOnly(client) : await client.response()
  client.socket.end()
  return response
}

/** The response to HEAD has the length of a body that is not sent. */
async function headOnly(client: RawClient): Promise<RawResponse> {
  const response = await client.head()
  await client.end()
  return { ...response, body: String(client.data) }
}

/** A text message and a Close frame, masked as those of a client. */
export const text = (data: string): Buffer => frame(1, data)
export const close = (code: number): Buffer => frame(8, bytes(code >> 8, code & 255))

/** An event that happens once, with a value. */
export class Signal<Value = void> {
  readonly promise: Promise<Value>
  #resolve: (value: Value) => void = () => {}

  constructor() {
    this.promise = new Promise(resolve => {
      this.#resolve = resolve
    })
  }

  fire(value: Value): void {
    this.#resolve(value)
  }

  /** The value, within the deadline. */
  async wait(what: string): Promise<Value> {
    return withDeadline(this.promise, 10_000, what)
  }
}

/** Two round trips of the event loop, so that the effects of an action have happened. */
export const tick = (): Promise<void> => new Promise(resolve => setImmediate(() => setImmediate(resolve)))

/** The duration of an operation in milliseconds. */
export async function duration(work: Promise<unknown>): Promise<number> {
  const start = performance.now()
  await withDeadline(work, 20_000, 'the timed operation')
  return performance.now() - start
}

export { ms, watchProcess, withDeadline }
