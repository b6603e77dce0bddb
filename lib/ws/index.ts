import type * as events from '../socket/event-target.js'
import type * as socket from '../socket/websocket.js'
import { WebSocket } from '../socket/websocket.js'
import type * as options from './options.js'
import { createWebSocketStream } from './stream.js'
import type * as server from './websocket-server.js'
import { WebSocketServer } from './websocket-server.js'

/** The module `ws`: its class, with the rest of the module on it. */
const ws = Object.assign(WebSocket, {
  createWebSocketStream,
  Server: WebSocketServer,
  WebSocket,
  WebSocketServer
})
type ws = WebSocket
/** Types as code for `ws` names them. */
declare namespace ws {
  type RawData = Buffer | ArrayBuffer | Buffer[]
  type Data = string | RawData
  type Server = WebSocketServer
  type CloseEvent = events.CloseEvent<WebSocket>
  type ErrorEvent = events.ErrorEvent<WebSocket>
  type MessageEvent = events.MessageEvent<WebSocket>
  type ServerOptions = options.ServerOptions
  type WebSocket = socket.WebSocket
  type WebSocketServer = server.WebSocketServer
}
type CloseEvent = ws.CloseEvent
type ErrorEvent = ws.ErrorEvent
type MessageEvent = ws.MessageEvent
type RawData = ws.RawData
type ServerOptions = ws.ServerOptions

export type { VerifyClient, VerifyClientInfo } from '../upgrade/verify-client.js'
export type { UpgradeCallback } from './connection.js'
export type { WebSocketServerEvents } from './websocket-server.js'
export {
  type CloseEvent,
  createWebSocketStream,
  type ErrorEvent,
  type MessageEvent,
  type RawData,
  type ServerOptions,
  WebSocketServer,
  ws as default,
  ws as WebSocket
}
