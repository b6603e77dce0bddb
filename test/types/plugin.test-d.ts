// Checked by `tsc`, never run.
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { expectTypeOf } from 'expect-type'
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type * as ws from 'ws'
import * as all from '../../lib/index.js'
import upgrade, {
  type FastifyUpgradeOptions,
  type PerMessageDeflateOptions,
  type PreparedMessage,
  type PrepareOptions,
  prepare,
  type SendData,
  WebSocket,
  type WebSocketRouteOptions
} from '../../lib/index.js'
import {
  type WebSocket as ClientWebSocket,
  type InjectContext,
  type InjectOptions,
  inject
} from '../../lib/testing/index.js'

const app = Fastify()

// ---- options

app.register(upgrade)
app.register(upgrade, {})
app.register(upgrade, { maxBufferedAmount: false })
app.register(upgrade, {
  maxPayload: 1,
  origin: ['https://example.com', /^https:\/\/example\.org$/],
  heartbeat: { interval: 1000 },
  handshakeTimeout: 1,
  closeTimeout: 1,
  highWaterMark: 1,
  maxBufferedAmount: 1,
  perMessageDeflate: false,
  selectSubprotocol(offers, request) {
    expectTypeOf(offers).toEqualTypeOf<readonly string[]>()
    expectTypeOf(request).toEqualTypeOf<FastifyRequest>()
    return offers[0]
  },
  errorHandler(error, socket, request, reply) {
    expectTypeOf(this).toEqualTypeOf<FastifyInstance>()
    expectTypeOf(error).toEqualTypeOf<Error>()
    expectTypeOf(socket).toEqualTypeOf<WebSocket>()
    expectTypeOf(request).toEqualTypeOf<FastifyRequest>()
    expectTypeOf(reply).toEqualTypeOf<FastifyReply>()
  },
  shutdown: { code: 1012, reason: 'later', timeout: 1 },
  preClose(done) {
    expectTypeOf(this).toEqualTypeOf<FastifyInstance>()
    done()
  },
  options: {
    maxPayload: 0,
    handleProtocols: (protocols, request) => {
      expectTypeOf(protocols).toEqualTypeOf<Set<string>>()
      expectTypeOf(request).toEqualTypeOf<IncomingMessage>()
      return false
    },
    verifyClient: ({ origin, secure, req }, callback) => {
      expectTypeOf(origin).toEqualTypeOf<string>()
      expectTypeOf(secure).toEqualTypeOf<boolean>()
      expectTypeOf(req).toEqualTypeOf<IncomingMessage>()
      callback(false, 403, 'no', { 'x-why': 1 })
    }
  },
  prefix: '/chat'
})
app.register(upgrade, { heartbeat: false, origin: async (origin, { host }) => origin.endsWith(host) })
app.register(upgrade, { errorHandler: async () => {}, preClose: async () => {} })
app.register(upgrade, { perMessageDeflate: true })
app.register(upgrade, {
  perMessageDeflate: {
    serverNoContextTakeover: false,
    clientNoContextTakeover: undefined,
    serverMaxWindowBits: 9,
    clientMaxWindowBits: 15,
    threshold: 0,
    zlibDeflateOptions: { level: 1, memLevel: 1, strategy: 0, chunkSize: 1024 },
    zlibInflateOptions: { chunkSize: 1024 },
    concurrencyLimit: 10
  },
  options: { perMessageDeflate: { threshold: 1024 } }
})
app.get('/', { websocket: { perMessageDeflate: { serverMaxWindowBits: 10 } } }, () => {})
app.get('/', { websocket: { perMessageDeflate: false } }, () => {})
expectTypeOf<{ subprotocol: 'a' }>().toExtend<WebSocketRouteOptions>()
expectTypeOf<{ maxPayload: undefined }>().toExtend<FastifyUpgradeOptions>()

// @ts-expect-error there is no such option
app.register(upgrade, { maxPayloads: 1 })
// @ts-expect-error a subprotocol belongs to a route
app.register(upgrade, { subprotocol: 'chat' })
// @ts-expect-error milliseconds are a number
app.register(upgrade, { handshakeTimeout: '10s' })
// @ts-expect-error zlib's options are in an object of their own
app.register(upgrade, { perMessageDeflate: { level: 3 } })
// @ts-expect-error compression is on, off or an object
app.register(upgrade, { perMessageDeflate: 'on' })
// @ts-expect-error an option of `ws` without a meaning here
app.register(upgrade, { options: { port: 1 } })
// @ts-expect-error a choice is a string or undefined
app.register(upgrade, { selectSubprotocol: () => 1 })

// ---- exports

expectTypeOf(all.default).toEqualTypeOf(all.fastifyUpgrade)
// @ts-expect-error sockets are created by handshakes
void (() => new WebSocket())

// ---- messages that are sent to many clients

expectTypeOf(prepare('text')).toEqualTypeOf<PreparedMessage>()
expectTypeOf(prepare(Buffer.alloc(1), { binary: false, compress: true })).toEqualTypeOf<PreparedMessage>()
expectTypeOf(prepare).parameter(0).toEqualTypeOf<SendData>()
expectTypeOf(prepare).parameter(1).toEqualTypeOf<PrepareOptions | undefined>()
expectTypeOf<PrepareOptions>().toEqualTypeOf<{
  readonly binary?: boolean | undefined
  readonly compress?: boolean | undefined
}>()
expectTypeOf<PreparedMessage['size']>().toEqualTypeOf<number>()
expectTypeOf<PreparedMessage['isBinary']>().toEqualTypeOf<boolean>()
expectTypeOf<FastifyUpgradeOptions['perMessageDeflate']>().toEqualTypeOf<
  boolean | PerMessageDeflateOptions | undefined
>()
// @ts-expect-error an object is not data
prepare({ a: 1 })
// @ts-expect-error a message for many clients is not fragmented
prepare('text', { fin: false })
// @ts-expect-error a prepared message is created by prepare()
new all.PreparedMessage('text', {})
// @ts-expect-error its frames are private
type _Frame = PreparedMessage['deflater']

expectTypeOf(app.websocketServer.broadcast('text')).toEqualTypeOf<Promise<void>>()
app.websocketServer.broadcast('text', { local: true })
app.websocketServer.broadcast(new Uint8Array(1), { binary: true, compress: false })
app.websocketServer.broadcast(prepare('text'))
// @ts-expect-error a message is required
app.websocketServer.broadcast()
// @ts-expect-error an object is not data
app.websocketServer.broadcast({ a: 1 })

// ---- the socket

declare const socket: WebSocket

const asWs: ws.WebSocket = socket
const takesWs = (_socket: ws.default): void => {}
takesWs(socket)
void asWs

expectTypeOf(socket.readyState).toEqualTypeOf<0 | 1 | 2 | 3>()
expectTypeOf<typeof WebSocket.OPEN>().toEqualTypeOf<1>()
expectTypeOf(socket.OPEN).toEqualTypeOf<1>()
expectTypeOf(socket.protocol).toEqualTypeOf<string>()
expectTypeOf(socket.bufferedAmount).toEqualTypeOf<number>()
expectTypeOf(socket.isPaused).toEqualTypeOf<boolean>()
expectTypeOf(socket.stream()).toExtend<Duplex>()
expectTypeOf(socket.drained()).toEqualTypeOf<Promise<void>>()
expectTypeOf(socket.send('text')).toEqualTypeOf<boolean>()
socket.send(Buffer.alloc(1), { binary: false, fin: true }, error => {
  expectTypeOf(error).toEqualTypeOf<Error | undefined>()
})
socket.send(new Uint8Array(1), () => {})
socket.send(new ArrayBuffer(1))
expectTypeOf(socket.send(prepare('text'))).toEqualTypeOf<boolean>()
socket.send(prepare('text'), error => expectTypeOf(error).toEqualTypeOf<Error | undefined>())
socket.send('text', { compress: false })
declare const eitherWay: 'text' | PreparedMessage
expectTypeOf(socket.send(eitherWay)).toEqualTypeOf<boolean>()
socket.send(eitherWay, () => {})
socket.publish('topic', eitherWay)
app.websocketServer.broadcast(eitherWay)
app.websocketServer.publish('topic', eitherWay)
declare const client: ClientWebSocket
client.send(eitherWay)
// @ts-expect-error the options of a prepared message are fixed
socket.send(prepare('text'), { binary: true })
socket.ping()
socket.ping('data', false, () => {})
socket.pong(() => {})
socket.close(1000, 'reason')
socket.close(1000, Buffer.from('reason'))
socket.on('message', (data, isBinary) => {
  expectTypeOf(data).toEqualTypeOf<Buffer>()
  expectTypeOf(isBinary).toEqualTypeOf<boolean>()
})
socket.on('close', (code, reason) => {
  expectTypeOf(code).toEqualTypeOf<number>()
  expectTypeOf(reason).toEqualTypeOf<Buffer>()
})
socket.once('error', error => expectTypeOf(error).toEqualTypeOf<Error>())
socket.on('drain', () => {})
socket.onmessage = ({ data }) => void data
socket.addEventListener('close', ({ code, reason, wasClean }) => {
  expectTypeOf(code).toEqualTypeOf<number>()
  expectTypeOf(reason).toEqualTypeOf<string>()
  expectTypeOf(wasClean).toEqualTypeOf<boolean>()
})

// @ts-expect-error an object is not data
socket.send({ a: 1 })
// @ts-expect-error data is required
socket.send()
// @ts-expect-error a code is a number
socket.close('1000')
// @ts-expect-error the subprotocol is fixed
socket.protocol = 'other'

// ---- injectWS

expectTypeOf(app.injectWS()).toEqualTypeOf<Promise<ClientWebSocket>>()
expectTypeOf(app.injectWS).parameter(0).toEqualTypeOf<string | undefined>()
expectTypeOf(app.injectWS).parameter(1).toEqualTypeOf<InjectContext | undefined>()
expectTypeOf(app.injectWS).parameter(2).toEqualTypeOf<InjectOptions | undefined>()
app.injectWS('/', {
  headers: { cookie: 'a=1', 'x-list': ['a', 'b'], 'x-number': 1 },
  subprotocols: ['a', 'b'],
  remoteAddress: '::1',
  method: 'POST',
  perMessageDeflate: { threshold: 0, serverMaxWindowBits: 9 }
})
app.injectWS(
  '/',
  {},
  { onInit: client => expectTypeOf(client).toEqualTypeOf<ClientWebSocket>(), onOpen: () => {} }
)
declare const incoming: IncomingMessage
app.injectWS('/', { headers: incoming.headers })
expectTypeOf(inject(app, '/')).toEqualTypeOf<Promise<ClientWebSocket>>()
inject(Fastify({ https: {} }))
// @ts-expect-error the path comes first
app.injectWS({ headers: {} })
// @ts-expect-error there is no such option
app.injectWS('/', { protocol: 'a' })
// @ts-expect-error it is not an application
inject({})
