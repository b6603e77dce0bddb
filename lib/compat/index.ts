import { WebSocket } from '../transport/websocket.js'
import type { ServerOptions } from './options.js'
import { createWebSocketStream } from './stream.js'
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
  type Server = WebSocketServer
}
type RawData = ws.RawData

export type { VerifyClient, VerifyClientInfo } from '../transport/verify-client.js'
export type { UpgradeCallback } from './connection.js'
export type { WebSocketServerEvents } from './websocket-server.js'
export {
  createWebSocketStream,
  type RawData,
  type ServerOptions,
  WebSocketServer,
  ws as default,
  ws as 'module.exports',
  ws as WebSocket
}
