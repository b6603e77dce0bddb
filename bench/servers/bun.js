import { DEFLATE, HOST, listening, MAX_PAYLOAD } from './control.js'

/**
 * The part of Bun that is used here.
 * @typedef {{
 *   data: string
 *   send(data: string | Uint8Array, compress?: boolean): void
 *   subscribe(topic: string): void
 *   publish(topic: string, data: string | Uint8Array): void
 * }} Socket
 * @typedef {{ port: number, upgrade(request: Request, options: { data: string }): boolean }} Server
 * @typedef {{
 *   port: number
 *   hostname: string
 *   fetch(request: Request, server: Server): Response | undefined
 *   websocket: {
 *     perMessageDeflate: boolean
 *     maxPayloadLength: number
 *     idleTimeout: number
 *     open(socket: Socket): void
 *     message(socket: Socket, data: string | Uint8Array): void
 *   }
 * }} Options
 */

const bun = /** @type {{ serve(options: Options): Server }} */ (Reflect.get(globalThis, 'Bun'))

const server = bun.serve({
  port: 0,
  hostname: HOST,
  fetch(request, server) {
    if (server.upgrade(request, { data: new URL(request.url).pathname })) return undefined
    return new Response('', { status: 400 })
  },
  websocket: {
    perMessageDeflate: DEFLATE,
    maxPayloadLength: MAX_PAYLOAD,
    idleTimeout: 0,
    open(socket) {
      if (socket.data === '/fan') socket.subscribe('fan')
    },
    message(socket, data) {
      if (socket.data !== '/fan') {
        socket.send(data, DEFLATE)
        return
      }
      // `publish` leaves the sender out.
      socket.publish('fan', data)
      socket.send(data)
    }
  }
})

listening(server.port)
