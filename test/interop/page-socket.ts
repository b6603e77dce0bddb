import { WebSocket } from 'ws'

const socketOfWs: unknown = WebSocket

/** What libraries for pages take as their `WebSocket`. */
export const PageSocket = socketOfWs as typeof globalThis.WebSocket
