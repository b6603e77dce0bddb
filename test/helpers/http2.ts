import { EventEmitter, once } from 'node:events'
import type { Server } from 'node:http'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders
} from 'node:http2'
import { connect as connectNet, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import upgrade, { type FastifyUpgradeOptions } from '../../lib/index.js'
import { bytes, decode, type WireFrame } from '../protocol/wire.js'
import { CERTIFICATE, KEY } from '../socket/certificate.js'
import { type App, Log } from './app.js'
import { withDeadline } from './timeout.js'

export const { NGHTTP2_CANCEL: CANCEL, NGHTTP2_NO_ERROR: NO_ERROR } = constants

/** Options of the HTTP/2 server; `cleartext` makes one without TLS. */
export interface Http2Options {
  readonly cleartext?: boolean
  readonly allowHTTP1?: boolean
  /** Further options of Fastify. */
  readonly server?: Readonly<Record<string, unknown>>
}

/** An application on a server of HTTP/2, without the plugin. It is closed at the end of the test. */
export function bareHttp2App(
  t: Test,
  { cleartext = false, allowHTTP1 = true, server = {} }: Http2Options = {}
): App {
  const log = new Log()
  const https = { key: KEY, cert: CERTIFICATE, allowHTTP1 }
  const options = {
    http2: true,
    ...(cleartext ? {} : { https }),
    logger: { level: 'debug', stream: log.stream }
  }
  // Fastify's types tell its servers apart; the tests run on each.
  const app = Reflect.apply(Fastify, undefined, [{ ...options, ...server }]) as FastifyInstance<Server>
  t.teardown(() => app.close())
  return { app, log }
}

/** An application on a server of HTTP/2 with the plugin. It is closed at the end of the test. */
export async function makeHttp2App(
  t: Test,
  options: FastifyUpgradeOptions = {},
  http2: Http2Options = {}
): Promise<App> {
  const { app, log } = bareHttp2App(t, http2)
  await app.register(upgrade, options)
  return { app, log }
}

/** A session of a client, once it knows the settings of the server. */
export class Session extends EventEmitter {
  readonly session: ClientHttp2Session
  readonly socket: Socket
  readonly #test: Test

  private constructor(t: Test, session: ClientHttp2Session, socket: Socket) {
    super()
    this.#test = t
    this.session = session
    this.socket = socket
    session.on('error', () => {})
    t.teardown(() => session.destroy())
  }

  static async open(
    t: Test,
    port: number,
    { host = 'localhost', cleartext = false }: { readonly host?: string; readonly cleartext?: boolean } = {}
  ): Promise<Session> {
    const tls = { ALPNProtocols: ['h2'], rejectUnauthorized: false }
    const socket = cleartext ? connectNet({ host, port }) : connectTls({ host, port, ...tls })
    const url = `${cleartext ? 'http' : 'https'}://${host.includes(':') ? `[${host}]` : host}:${port}`
    const session = new Session(t, connect(url, { createConnection: () => socket }), socket)
    await withDeadline(once(session.session, 'remoteSettings'), 10_000, 'settings')
    return session
  }

  /** Whether the server has announced extended CONNECT. */
  get isAnnounced(): boolean {
    return this.session.remoteSettings.enableConnectProtocol === true
  }

  get isClosed(): boolean {
    return this.session.destroyed
  }

  /** Sends a request. */
  request(headers: OutgoingHttpHeaders, options: { readonly endStream?: boolean } = {}): Http2Client {
    return new Http2Client(this.#test, this.session.request(headers, { endStream: false, ...options }))
  }

  /** Sends an extended CONNECT; a field that is set to undefined is left out. */
  connect(
    path: string,
    fields: OutgoingHttpHeaders = {},
    options: { readonly endStream?: boolean } = {}
  ): Http2Client {
    const all: OutgoingHttpHeaders = {
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':path': path,
      'sec-websocket-version': '13',
      ...fields
    }
    const sent = Object.entries(all).filter(([, value]) => value !== undefined)
    return this.request(Object.fromEntries(sent), options)
  }

  /** A WebSocket, once it is open. */
  async open(path: string, fields?: OutgoingHttpHeaders): Promise<Http2Client> {
    const client = this.connect(path, fields)
    const status = await client.status()
    if (status !== 200) throw new Error(`the server answered ${status}`)
    return client
  }

  /** The status and the body of an ordinary request. */
  async get(path: string): Promise<{ readonly status: number; readonly body: string }> {
    const client = this.request({ ':path': path }, { endStream: true })
    return { status: await client.status(), body: await client.body() }
  }

  async closed(): Promise<void> {
    if (!this.session.destroyed)
      await withDeadline(once(this.session, 'close'), 10_000, 'close of the session')
  }
}

/** A stream of a client that writes and reads bytes. */
export class Http2Client extends EventEmitter {
  readonly stream: ClientHttp2Stream
  headers: IncomingHttpHeaders = {}
  data: Buffer = Buffer.alloc(0)
  ended = false
  closed = false

  constructor(t: Test, stream: ClientHttp2Stream) {
    super()
    this.stream = stream
    stream.on('response', headers => {
      this.headers = headers
      this.emit('news')
    })
    stream.on('data', (chunk: Buffer) => {
      this.data = bytes(this.data, chunk)
      this.emit('news')
    })
    stream.on('end', () => {
      this.ended = true
      this.emit('news')
    })
    stream.on('close', () => {
      this.closed = true
      this.emit('news')
    })
    stream.on('error', () => {})
    t.teardown(() => stream.destroy())
  }

  write(...parts: readonly (string | Uint8Array)[]): void {
    this.stream.write(bytes(...parts))
  }

  async until(condition: () => boolean, what: string): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!condition()) {
        if (this.closed) throw new Error(`closed with ${this.stream.rstCode} before: ${what}`)
        await once(this, 'news')
      }
    }
    await withDeadline(wait(), 10_000, what)
  }

  async status(): Promise<number> {
    await this.until(() => this.headers[':status'] !== undefined, 'a response')
    return Number(this.headers[':status'])
  }

  async body(): Promise<string> {
    await this.until(() => this.ended, 'the end of a body')
    return String(this.data)
  }

  /** Takes the next frame. */
  async frame(): Promise<WireFrame> {
    const size = (): number => {
      if (this.data.length < 2) return Infinity
      const length = this.data.readUInt8(1) % 128
      if (length < 126) return 2 + length
      if (this.data.length < 10) return Infinity
      return length === 126 ? 4 + this.data.readUInt16BE(2) : 10 + Number(this.data.readBigUInt64BE(2))
    }
    await this.until(() => this.data.length >= size(), 'a frame')
    const at = size()
    const [first] = decode(this.data.subarray(0, at))
    this.data = this.data.subarray(at)
    if (first === undefined) throw new Error('no frame')
    return first
  }

  async text(): Promise<string> {
    return String((await this.frame()).payload)
  }

  /** The code with which the stream is closed. */
  async reset(): Promise<number | undefined> {
    const wait = async (): Promise<void> => {
      while (!this.closed) await once(this, 'news')
    }
    await withDeadline(wait(), 10_000, 'close of the stream')
    return this.stream.rstCode
  }
}
