import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { deadlinesAfter, type Waiting } from '../limits/deadline.js'
import { INTERNAL_ERROR } from '../protocol/close-code.js'
import { NotOpenError } from '../socket/error.js'
import { isThenable } from '../socket/events.js'
import type { ConnectionSetup, WebSocketOwner } from '../socket/options.js'
import type { WebSocket } from '../socket/websocket.js'

/** Told of what concerns more than a connection. */
export interface ConnectionHost {
  /** Something of the application threw or rejected. */
  report(error: unknown): void
  onOpen(socket: WebSocket): void
  onClose(socket: WebSocket): void
}

/** What the application does with a new connection. */
export type UpgradeCallback = (socket: WebSocket, request: IncomingMessage) => unknown

/** How a connection is opened. */
export interface Opening {
  readonly WebSocket: typeof WebSocket
  readonly options: Omit<ConnectionSetup<WebSocket>, 'owner' | 'role'>
  /** Milliseconds that the first message waits for somebody to take it. */
  readonly patience: number
}

/**
 * Begins a connection and hands it to the application.
 * @throws what the constructor of the application's own class throws; the connection is cut then.
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

/** Looks after a connection for its server. */
class Owner implements WebSocketOwner<WebSocket>, Waiting {
  readonly #host: ConnectionHost
  readonly #patience: number
  #socket: WebSocket | undefined
  /** The connection was closed for an error of the application. */
  #failed = false

  constructor(host: ConnectionHost, { patience }: Opening) {
    this.#host = host
    this.#patience = patience
  }

  /**
   * As in `ws`, pings are answered and a close is seen whether or not somebody listens. But the first message waits for a
   * while: a listener of `connection` may have to look something up before it listens.
   */
  begin(socket: WebSocket): void {
    this.#socket = socket
    socket.on('close', ignore)
    deadlinesAfter(this.#patience).set(this)
  }

  onDeadline(): void {
    this.#socket?.readAlways()
  }

  onClose(socket: WebSocket): void {
    this.#socket = undefined
    deadlinesAfter(this.#patience).clear(this)
    this.#host.onClose(socket)
  }

  /** The listeners of the socket are told, if there are any. */
  onPeerError(): void {}

  onError(socket: WebSocket, thrown: unknown): void {
    // With another socket's error this connection may well be open.
    if (thrown instanceof NotOpenError && socket.readyState !== socket.OPEN) return
    // What comes after the first, while the connection closes, comes at the will of the peer.
    if (this.#failed) return
    this.#failed = true
    socket.close(INTERNAL_ERROR)
    this.#host.report(thrown)
  }
}

/** Who listens for `close` has the connection read up to the first message. */
function ignore(): void {}
