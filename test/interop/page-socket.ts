import { WebSocket } from 'ws'

const socketOfWs: unknown = WebSocket

/** The `WebSocket` of libraries for pages. */
export const PageSocket = socketOfWs as typeof globalThis.WebSocket
