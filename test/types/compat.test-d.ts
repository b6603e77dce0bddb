// Checked by `tsc`, never run.
import { createServer, type IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { expectTypeOf } from 'expect-type'
import type * as ws from 'ws'
import { type WebSocket as PluginWebSocket, prepare } from '../../lib/index.js'
import WebSocketDefault, {
  type CloseEvent,
  createWebSocketStream,
  type ErrorEvent,
  type MessageEvent,
  type RawData,
  type ServerOptions,
  type WebSocket,
  WebSocketServer
} from '../../lib/ws/index.js'

// ---- the shapes of the module

expectTypeOf(WebSocketDefault.Server).toEqualTypeOf<typeof WebSocketServer>()
expectTypeOf(WebSocketDefault.WebSocketServer).toEqualTypeOf<typeof WebSocketServer>()
expectTypeOf(WebSocketDefault.createWebSocketStream).toEqualTypeOf<typeof createWebSocketStream>()
expectTypeOf<WebSocketDefault.Server>().toEqualTypeOf<WebSocketServer>()
expectTypeOf<WebSocketDefault.RawData>().toEqualTypeOf<RawData>()
expectTypeOf<WebSocketDefault.WebSocketServer>().toEqualTypeOf<WebSocketServer>()
expectTypeOf<WebSocketDefault.WebSocket>().toEqualTypeOf<WebSocket>()
expectTypeOf<WebSocketDefault.ServerOptions>().toEqualTypeOf<ServerOptions>()
expectTypeOf<WebSocketDefault.Data>().toEqualTypeOf<ws.Data>()
expectTypeOf<ws.RawData>().toEqualTypeOf<RawData>()
expectTypeOf<WebSocketDefault>().toEqualTypeOf<WebSocket>()
// Sockets of routes have topics, too.
expectTypeOf<PluginWebSocket>().toExtend<WebSocket>()
expectTypeOf<typeof WebSocketDefault.OPEN>().toEqualTypeOf<1>()

function tellEvents(socket: WebSocketDefault): void {
  socket.onmessage = (event: WebSocketDefault.MessageEvent) =>
    expectTypeOf(event).toEqualTypeOf<MessageEvent>()
  socket.onclose = (event: WebSocketDefault.CloseEvent) => expectTypeOf(event).toEqualTypeOf<CloseEvent>()
  socket.onerror = (event: WebSocketDefault.ErrorEvent) => expectTypeOf(event).toEqualTypeOf<ErrorEvent>()
}
void tellEvents

// ---- a server, where a library expects that of `ws`

const server = new WebSocketServer({ noServer: true })
const asWs: ws.WebSocketServer = server
const options: ServerOptions = {
  server: createServer(),
  maxPayload: 0,
  heartbeat: { interval: 1000 },
  maxConnections: 10,
  verifyClient(info, callback) {
    expectTypeOf(info.origin).toBeString()
    callback(false, 403, 'no', { 'x-reason': 1 })
  },
  handleProtocols: protocols => protocols.values().next().value ?? false
}
new WebSocketServer(options, () => {})
// @ts-expect-error it must be a number
new WebSocketServer({ port: '80' })

server.on('connection', (socket, request) => {
  expectTypeOf(socket).toEqualTypeOf<WebSocket>()
  expectTypeOf(request).toEqualTypeOf<IncomingMessage>()
  socket.on('message', (data: RawData, isBinary: boolean) => void [data, isBinary])
  expectTypeOf(createWebSocketStream(socket, { readableObjectMode: true })).toEqualTypeOf<Duplex>()
})
server.on('headers', lines => expectTypeOf(lines).toEqualTypeOf<string[]>())
server.on('wsClientError', (error, socket) => {
  expectTypeOf(error).toEqualTypeOf<Error>()
  expectTypeOf(socket).toEqualTypeOf<Duplex>()
})
for (const client of asWs.clients) client.close()
for (const client of server.clients) client.send(client.isPaused ? 'text' : prepare('text'))
