import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Http2Server, Http2Session } from 'node:http2'
import type { Duplex } from 'node:stream'
import { deadlinesAfter, type Waiting } from '../limits/deadline.js'
import { queuedBytes, takenBytes } from '../socket/send-queue.js'
import type { Http2Request } from './http2.js'
import { TAKEN } from './upgrade-events.js'

/** Milliseconds without progress after which a connection with pending data is cut, while the server shuts down. */
const STALLED = 1_000

/** Whether a server speaks HTTP/2, with TLS or without. */
export function speaksHttp2(server: Server): server is Server & Pick<Http2Server, 'updateSettings'> {
  return 'updateSettings' in server
}

/**
 * Takes an extended CONNECT for `websocket`.
 * @param isAlone whether the server has no other listeners of `connect`.
 * @returns whether it is answered; if not, it is left to the other listeners.
 */
type TakeConnect = (request: Http2Request, response: ServerResponse, isAlone: boolean) => boolean

/**
 * WebSockets over HTTP/2 on a server: announces extended CONNECT (RFC 8441 section 3), takes the event `connect`, which Node
 * emits in place of `request` and `upgrade`, and ends the sessions at the shutdown.
 */
export class ConnectListener implements Waiting {
  readonly #server: Server
  readonly #take: TakeConnect
  /** The sessions that have had a handshake, and their connections. */
  readonly #sessions = new Map<Http2Session, Connection>()
  #isEnding = false

  constructor(server: Server, take: TakeConnect) {
    this.#server = server
    this.#take = take
    announce(server, true)
    server.on('connect', this.#onConnect)
  }

  /** Adds a server that the application has for another address, and that emits the events of this one. */
  addBinding(binding: Server): void {
    announce(binding, true)
    binding.on('connect', (...args) => this.#server.emit('connect', ...args))
  }

  /** Ends the sessions that have had a handshake, once their streams have ended. */
  endSessions(): void {
    this.#isEnding = true
    for (const session of this.#sessions.keys()) session.close()
    this.onDeadline()
  }

  /** Cuts the connections whose peers read nothing any more. They must not keep the server. */
  onDeadline(): void {
    for (const connection of this.#sessions.values()) connection.cutIfStalled()
    if (this.#sessions.size > 0) deadlinesAfter(STALLED).set(this)
  }

  /** Stops listening. Sessions that are opened from now on are as before. */
  stop(): void {
    deadlinesAfter(STALLED).clear(this)
    announce(this.#server, false)
    this.#server.off('connect', this.#onConnect)
  }

  readonly #onConnect = (request: IncomingMessage, answer: Duplex | ServerResponse): unknown => {
    const isAlone = this.#server.listenerCount('connect') === 1
    if (!isHttp2(request) || !('writeHead' in answer)) {
      // As Node does without a listener.
      if (isAlone) request.socket.destroy()
      return undefined
    }
    if (request.headers[':protocol'] === 'websocket') return this.#onHandshake(request, answer, isAlone)
    // Another listener may connect to a host, or speak another protocol.
    if (!isAlone) return undefined
    // RFC 8441 section 4; RFC 9220 section 3 says which status.
    answer.writeHead(request.headers[':protocol'] === undefined ? 405 : 501).end()
    return TAKEN
  }

  #onHandshake(request: Http2Request, response: ServerResponse, isAlone: boolean): unknown {
    const { session, destroyed } = request.stream
    // The client has reset the stream already.
    if (destroyed || session === undefined) return TAKEN
    if (!this.#take(request, response, isAlone)) return undefined
    this.#watch(session)
    return TAKEN
  }

  #watch(session: Http2Session): void {
    if (!this.#sessions.has(session)) {
      this.#sessions.set(session, new Connection(session))
      session.once('close', () => this.#sessions.delete(session))
    }
    if (this.#isEnding) session.close()
  }
}

function isHttp2(request: IncomingMessage): request is Http2Request {
  return request.httpVersionMajor === 2
}

function announce(server: Server, enableConnectProtocol: boolean): void {
  if (speaksHttp2(server)) server.updateSettings({ enableConnectProtocol })
}

/** The connection below a session. */
class Connection {
  readonly #socket: Duplex
  /** The bytes that the operating system had taken at the last look. */
  #taken: number | undefined

  constructor(session: Http2Session) {
    this.#socket = socketOf(session)
  }

  cutIfStalled(): void {
    const taken = takenBytes(this.#socket)
    if (queuedBytes(this.#socket) > 0 && taken === this.#taken) this.#socket.destroy()
    this.#taken = taken
  }
}

/** The socket of a session. `session.socket` is a proxy, which does not destroy it, but whose methods return it. */
export function socketOf(session: Http2Session): Duplex {
  const { socket } = session
  return socket.setMaxListeners(socket.getMaxListeners())
}
