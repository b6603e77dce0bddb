import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { deadlinesAfter, type Waiting } from '../limits/deadline.js'
import type { Message, SendData } from '../socket/codec.js'
import { isThenable } from '../socket/events.js'
import type { ConnectionSetup, WebSocketOwner } from '../socket/options.js'
import type { WebSocket } from '../socket/websocket.js'

/** The server of a connection. */
export interface ConnectionHost {
  /** A function of the application threw or rejected. */
  report(error: unknown): void
  onOpen(socket: WebSocket): void
  onClose(socket: WebSocket): void
}

/** Takes a new connection. */
export type UpgradeCallback = (socket: WebSocket, request: IncomingMessage) => unknown

/** The way in which a connection is opened. */
export interface Opening {
  readonly WebSocket: typeof WebSocket<Message, SendData>
  readonly options: Omit<ConnectionSetup<WebSocket>, 'owner' | 'role'>
  /** Milliseconds that the first message waits for a listener. */
  readonly listenTimeout: number
}

/**
 * Begins a connection and passes it to the application.
 * @throws the error of the constructor of the application's own class; the connection is cut then.
 */
export function openConnection(
  stream: Duplex,
  opening: Opening,
  host: ConnectionHost,
  hand: (socket: WebSocket) => unknown
): void {
  const owner = new Owner(host, opening)
  const socket = construct(stream, opening, owner)
  owner.begin(socket)
  host.onOpen(socket)
  try {
    const result = hand(socket)
    if (isThenable(result)) result.then(undefined, error => owner.onError(socket, error))
  } catch (error) {
    owner.onError(socket, error)
  }
}

function construct(stream: Duplex, { WebSocket, options }: Opening, owner: Owner): WebSocket {
  try {
    return new WebSocket(stream, { ...options, role: 'server', owner })
  } catch (error) {
    stream.destroy()
    throw error
  }
}

/** The owner of a connection, on behalf of its server. */
class Owner implements WebSocketOwner<WebSocket>, Waiting {
  readonly #host: ConnectionHost
  readonly #listenTimeout: number
  #socket: WebSocket | undefined

  constructor(host: ConnectionHost, { listenTimeout }: Opening) {
    this.#host = host
    this.#listenTimeout = listenTimeout
  }

  /**
   * As in `ws`, pings are answered and a close is seen with or without listeners. But the first message waits for a while:
   * a listener of `connection` may need time before it adds its own listeners.
   */
  begin(socket: WebSocket): void {
    this.#socket = socket
    socket.on('close', ignore)
    deadlinesAfter(this.#listenTimeout).set(this)
  }

  onDeadline(): void {
    this.#socket?.readAlways()
  }

  onClose(socket: WebSocket): void {
    this.#socket = undefined
    deadlinesAfter(this.#listenTimeout).clear(this)
    this.#host.onClose(socket)
  }

  /** The event `error` of the socket is enough. */
  onPeerError(): void {}

  onError(socket: WebSocket, thrown: unknown): void {
    if (!socket.isLateSend(thrown) && socket.closeOnError()) this.#host.report(thrown)
  }
}

/** With a listener of `close` the connection is read up to the first message. */
function ignore(): void {}
