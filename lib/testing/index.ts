/** The type of a client of {@link inject}: without topics, which belong to the server's side. */
export { WebSocket } from '../socket/websocket.js'
export { InjectHttp2Error, InjectInvalidResponseError, InjectRefusedError } from './error.js'
export { type Injectable, type InjectContext, type InjectOptions, inject } from './inject.js'
