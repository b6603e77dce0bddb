import { randomBytes } from 'node:crypto'
import { request as httpRequest, type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import type { Http2Session } from 'node:http2'
import type { Duplex } from 'node:stream'
import { text } from 'node:stream/consumers'
import { Server as TlsServer } from 'node:tls'
import { MessageChannel, type MessagePort } from 'node:worker_threads'
import { PerMessageDeflate } from '../compression/per-message-deflate.js'
import { MAX_INT32 } from '../options/option.js'
import type { DeflateSettings } from '../options/table.js'
import {
  type ClientHandshake,
  checkChoices,
  checkResponse,
  handshakeFields
} from '../protocol/handshake/client-handshake.js'
import type { Headers } from '../protocol/handshake/header-field.js'
import { parseTokenList } from '../protocol/handshake/token.js'
import type { WebSocketOwner, WebSocketSettings } from '../socket/options.js'
import { WebSocket } from '../socket/websocket.js'
import { socketOf } from '../upgrade/connect-listener.js'
import { InjectHttp2Error, InjectInvalidResponseError, InjectRefusedError } from './error.js'
import { connectHttp2 } from './inject-http2.js'
import { type AlpnProtocol, MemorySocket } from './memory-socket.js'

/** An application: what {@link inject} needs of a Fastify instance. */
export interface Injectable {
  readonly server: { emit(event: string, ...args: unknown[]): boolean }
  ready(): PromiseLike<unknown>
}

/** The request of a handshake. */
export interface InjectContext {
  /**
   * Its headers. `Host` is `localhost` by default. Those that make the handshake are set for you:
   * `Sec-WebSocket-Protocol` can be given here, the others cannot.
   */
  readonly headers?: Headers | undefined
  /** Subprotocols to offer, in order of preference. Default: those of the header. */
  readonly subprotocols?: string | readonly string[] | undefined
  /** The address that the client has. Default: `127.0.0.1`. */
  readonly remoteAddress?: string | undefined
  /** The version of HTTP. 2 opens a session of HTTP/2 for each WebSocket. Default: 1.1. */
  readonly httpVersion?: 1.1 | 2 | undefined
  /** Default: `GET`. The server refuses any other. It has no effect over HTTP/2. */
  readonly method?: string | undefined
  /**
   * Whether permessage-deflate is offered, or how: the parameters of the offer, and how the client compresses, with
   * `threshold`, `level`, `memLevel` and `strategy`. Default: false.
   */
  readonly perMessageDeflate?: boolean | Partial<DeflateSettings> | undefined
}

export interface InjectOptions {
  /** Called once the client exists, before it emits anything. */
  readonly onInit?: ((client: WebSocket) => void) | undefined
  /** Called after the client's event `open`. */
  readonly onOpen?: ((client: WebSocket) => void) | undefined
}

const DEFLATE: DeflateSettings = {
  serverNoContextTakeover: false,
  clientNoContextTakeover: false,
  serverMaxWindowBits: 15,
  clientMaxWindowBits: 15,
  threshold: 1024,
  level: 3,
  memLevel: 8,
  strategy: 0
}

/** A test looks at the limits of its server; the client has none. */
const SETTINGS: WebSocketSettings = {
  // The most that the plugin takes.
  maxPayload: MAX_INT32,
  closeTimeout: 5_000,
  heartbeat: false,
  highWaterMark: 65_536,
  maxBufferedAmount: false,
  keepsMessages: true
}

/** An exception of a listener belongs to the test, as with any other emitter, and must not be swallowed. */
const OWNER: WebSocketOwner<WebSocket> = {
  onError(_client, error) {
    process.nextTick(() => {
      throw error
    })
  },
  onPeerError() {},
  onClose() {}
}

/**
 * Opens a WebSocket to an application in memory, without listening. The handshake goes through the application's HTTP
 * server and the upgrade as one from the network does.
 * @param path path and query. Default: `/`.
 * @returns the client's side, open. Messages of the server are kept until a consumer takes them.
 * @throws {InjectRefusedError} `FST_UPGRADE_INJECT_REFUSED` with `statusCode`, `headers` and `body`, when the server
 * refuses.
 * @throws {InjectInvalidResponseError} `FST_UPGRADE_INJECT_INVALID_RESPONSE` when it accepts with an invalid answer.
 * @throws {InjectHttp2Error} `FST_UPGRADE_INJECT_HTTP2` with `httpVersion: 2` where the server has no WebSockets over it.
 */
export async function inject(
  app: Injectable,
  path = '/',
  context: InjectContext = {},
  options: InjectOptions = {}
): Promise<WebSocket> {
  await app.ready()
  const { httpVersion = 1.1 } = context
  const held = holdProcess()
  try {
    return await (httpVersion === 2 ? injectHttp2 : injectHttp1)(app, path, context, options)
  } finally {
    held.close()
  }
}

function injectHttp1(
  app: Injectable,
  path: string,
  context: InjectContext,
  options: InjectOptions
): Promise<WebSocket> {
  const deflate = deflateOf(context)
  const handshake = handshakeOf(context, deflate)
  return new Promise<WebSocket>((resolve, reject) => {
    const request = httpRequest({
      method: context.method ?? 'GET',
      path,
      headers: handshakeFields(handshake).flat(),
      createConnection: () => connect(app, context, 'http/1.1')
    })
    request.on('error', reject)
    request.on('response', response => readRefusal(response).then(reject, reject))
    request.on('upgrade', (response, stream, head) => {
      try {
        if (head.length > 0) stream.unshift(head)
        const agreed = checked(checkResponse(response, handshake), 101, response.headers)
        resolve(open(stream, agreed, deflate, options))
      } catch (error) {
        stream.destroy()
        reject(error)
      }
    })
    request.end()
  })
}

async function injectHttp2(
  app: Injectable,
  path: string,
  context: InjectContext,
  options: InjectOptions
): Promise<WebSocket> {
  if (!('updateSettings' in app.server)) throw new InjectHttp2Error()
  const deflate = deflateOf(context)
  const handshake = handshakeOf(context, deflate)
  const { stream, headers } = await connectHttp2(connect(app, context, 'h2'), path, handshake)
  try {
    return open(stream, checked(checkChoices(headers, handshake), 200, headers), deflate, options)
  } catch (error) {
    stream.destroy()
    throw error
  }
}

/** While a handshake is under way. Neither memory nor the deadlines of a server hold the process, as a socket does. */
function holdProcess(): MessagePort {
  const { port1 } = new MessageChannel()
  port1.ref()
  return port1
}

/** The client's end of a new connection to the server of an application. */
function connect(
  { server }: Injectable,
  { remoteAddress = '127.0.0.1' }: InjectContext,
  protocol: AlpnProtocol
): Duplex {
  const isTls = server instanceof TlsServer
  const ends = MemorySocket.pair(remoteAddress, isTls)
  ends.server.onSecure(server, protocol)
  if (protocol === 'h2') {
    // Node puts a socket of its own around one in memory.
    const describe = (session: Http2Session): void => ends.server.describe(socketOf(session))
    Reflect.apply(Reflect.get(server, 'once'), server, ['session', describe])
  }
  server.emit(isTls ? 'secureConnection' : 'connection', ends.server)
  return ends.client
}

function deflateOf({ perMessageDeflate = false }: InjectContext): DeflateSettings | undefined {
  if (perMessageDeflate === false) return undefined
  return perMessageDeflate === true ? DEFLATE : { ...DEFLATE, ...perMessageDeflate }
}

function handshakeOf(
  { headers = {}, subprotocols }: InjectContext,
  deflate: DeflateSettings | undefined
): ClientHandshake {
  const { host = 'localhost', 'sec-websocket-protocol': offered, ...others } = byLowerCaseName(headers)
  return {
    host: String(host),
    key: randomBytes(16).toString('base64'),
    protocols: subprotocols === undefined ? readProtocols(offered) : [subprotocols].flat(),
    deflate,
    headers: others
  }
}

/** A value that is not a list of tokens is sent unchanged, so that the server refuses it. */
function readProtocols(offered: Headers[string]): readonly string[] {
  if (offered === undefined) return []
  const text = String(offered)
  return parseTokenList(text) ?? [text]
}

function byLowerCaseName(headers: Headers): Record<string, Headers[string]> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]))
}

async function readRefusal(response: IncomingMessage): Promise<InjectRefusedError> {
  const body = await text(response)
  return new InjectRefusedError(Number(response.statusCode), response.headers, body)
}

/** The negotiated values of the answer. */
function checked(
  agreed: ReturnType<typeof checkResponse>,
  status: number,
  headers: IncomingHttpHeaders
): Exclude<ReturnType<typeof checkResponse>, { readonly failure: string }> {
  if ('failure' in agreed) throw new InjectInvalidResponseError(agreed.failure, status, headers)
  return agreed
}

function open(
  stream: Duplex,
  { protocol, deflate: parameters }: ReturnType<typeof checked>,
  settings: DeflateSettings | undefined,
  { onInit, onOpen }: InjectOptions
): WebSocket {
  const extension = parameters && settings && new PerMessageDeflate('client', parameters, settings)
  const client = new WebSocket(stream, {
    role: 'client',
    protocol,
    extension,
    settings: SETTINGS,
    maskingKey: () => randomBytes(4).readUInt32BE(),
    owner: OWNER
  })
  onInit?.(client)
  client.emit('open')
  onOpen?.(client)
  return client
}
