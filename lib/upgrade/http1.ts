import { type IncomingMessage, ServerResponse, STATUS_CODES } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { headerField } from '../protocol/handshake/header-field.js'
import { checkRequest, type Handshake, type Refusal } from '../protocol/handshake/request.js'
import { type Acceptance, acceptResponse } from '../protocol/handshake/response.js'
import { ignoreErrors } from '../socket/byte-stream.js'
import type { ChannelOwner, ResponseOwner, UpgradeChannel } from './channel.js'
import { ACCESSORS, end, kChannel, kOwner, type RespondingChannel, writeHead } from './channel-response.js'

/**
 * The upgrade channel of HTTP/1.1: a handshake on a socket, which carries the frames after the 101. When Node's HTTP
 * server emits `upgrade`, it stops handling the socket's events, so the channel takes over.
 */
export class Http1Channel implements UpgradeChannel, RespondingChannel {
  readonly acceptStatus = 101
  readonly request: IncomingMessage
  readonly stream: Duplex
  /** The first bytes behind the request, which belong to the WebSocket. */
  #head: Buffer | undefined
  #answer: 'none' | 'refused' | 'accepted' = 'none'
  #owner: ChannelOwner | undefined
  #response: Http1Response | undefined
  #listeners: Readonly<Record<string, () => void>> | undefined

  /** @param head the first bytes behind the request, as the event `upgrade` has them. */
  constructor(request: IncomingMessage, socket: Duplex, head: Buffer) {
    // Before anything else: a reset must not be an uncaught exception.
    ignoreErrors(socket)
    this.request = request
    this.stream = socket
    this.#head = head.length > 0 ? head : undefined
  }

  get isAnswered(): boolean {
    return this.#answer !== 'none'
  }

  /** Whether the 101 is sent. */
  get isAccepted(): boolean {
    return this.#answer === 'accepted'
  }

  get isOpen(): boolean {
    return this.stream.writable && !this.stream.readableEnded
  }

  get responsePrototype(): object {
    return ServerResponse.prototype
  }

  readHandshake(): Handshake | Refusal {
    return checkRequest(this.request)
  }

  begin(owner: ChannelOwner, onTurn: () => void): void {
    this.#owner = owner
    afterResponses(this.request, this.stream, onTurn)
    // An acceptance or a release in the same tick has ended the watch already.
    if (this.#owner === owner) this.#watch(owner)
  }

  /** Does what Node's HTTP server does for its own sockets. */
  #watch(owner: ChannelOwner): void {
    this.#listeners = {
      close: () => {
        this.#unwatch()
        owner.onClose()
      },
      // A client that ends its side before the answer does not want one.
      end: () => {
        if (!this.isAnswered) this.destroy()
      },
      // The server's `timeout` has passed without traffic.
      timeout: () => this.destroy(),
      drain: () => this.#response?.emit('drain')
    }
    for (const [event, listener] of Object.entries(this.#listeners)) this.stream.on(event, listener)
    this.#response?.on('finish', onFinish)
  }

  #unwatch(): void {
    this.#owner = undefined
    for (const [event, listener] of Object.entries(this.#listeners ?? {})) this.stream.off(event, listener)
    this.#listeners = undefined
    this.#response?.off('finish', onFinish)
  }

  release(): void {
    this.#unwatch()
    this.#detachResponse()
    this.#response = undefined
  }

  accept(acceptance: Acceptance): Duplex {
    return this.switchProtocols(acceptResponse(acceptance))
  }

  /**
   * RFC 6455 section 4.2.2: sends the 101. From here on the socket carries frames.
   * @param head the head of the 101.
   */
  switchProtocols(head: string): Duplex {
    const { stream } = this
    const owner = this.#owner
    this.#answer = 'accepted'
    this.#unwatch()
    this.#detachResponse()
    owner?.onAccepted()
    prepareForFrames(stream)
    if (this.#head !== undefined) stream.unshift(this.#head)
    this.#head = undefined
    stream.write(head, 'latin1')
    return stream
  }

  refuse(refusal: Omit<Refusal, 'code'>): void {
    const response = refusalResponse(refusal)
    this.#answer = 'refused'
    this.#end(response)
  }

  /** Leaves the answer to the application, which writes it on the socket and ends that. */
  leaveAnswer(): Duplex {
    this.#answer = 'refused'
    this.#owner?.onRefused()
    return this.stream
  }

  respond(owner: ResponseOwner): ServerResponse {
    const response = new Http1Response(this.request, this, owner)
    this.#response = response
    // Node takes any stream here, unlike its types.
    Reflect.apply(response.assignSocket, response, [this.stream])
    if (this.#listeners !== undefined) response.on('finish', onFinish)
    return response
  }

  #detachResponse(): void {
    const response = this.#response
    if (response === undefined) return
    if (this.isAccepted && !(response instanceof Http1Response)) Object.defineProperties(response, SENT)
    Reflect.apply(response.detachSocket, response, [this.stream])
  }

  refusalHead(status: number, rest: readonly unknown[]): readonly unknown[] {
    return [status, ...rest]
  }

  /** The head of a refusal is written to the response. */
  onHeadSent(): void {
    this.#answer = 'refused'
  }

  /** A refusal is written: the client may read it before it closes. */
  onRefusalSent(): void {
    this.#end()
  }

  #end(response?: Buffer): void {
    this.#owner?.onRefused()
    if (response === undefined) this.stream.end()
    else this.stream.end(response)
    // Unread bytes would make the end a reset, which may reach the client before the answer.
    this.stream.resume()
  }

  abortRequest(): void {
    this.request.destroy()
  }

  destroy(): void {
    this.stream.destroy()
  }
}

/** The server's timeouts end with the handshake, and a frame must not wait for the next one. */
function prepareForFrames(stream: Duplex): void {
  if (!(stream instanceof Socket)) return
  stream.setTimeout(0)
  stream.setNoDelay(true)
}

/** The response of an application to a handshake. It writes refusals; the channel writes the 101. */
class Http1Response extends ServerResponse {
  readonly [kChannel]: Http1Channel
  readonly [kOwner]: ResponseOwner

  constructor(request: IncomingMessage, channel: Http1Channel, owner: ResponseOwner) {
    super(request)
    this[kChannel] = channel
    this[kOwner] = owner
    // The connection ends after a refusal.
    this.shouldKeepAlive = false
    // Own properties, as Express replaces the prototype of each response.
    this.writeHead = writeHead
    this.end = end
  }

  static {
    // Node declares both as properties, so TypeScript takes no accessor.
    Object.defineProperties(Http1Response.prototype, ACCESSORS)
  }
}

function onFinish(this: Http1Response): void {
  this[kChannel].onRefusalSent()
}

/** For a response with another prototype. */
const SENT: PropertyDescriptorMap = {
  headersSent: { configurable: true, value: true },
  writableEnded: { configurable: true, value: true }
}

/**
 * Calls back when the responses to earlier requests on the same connection are sent, if it is still open then.
 * @param socket the socket that came with the upgrade. While the body of the request is incomplete, Node 26 passes a
 * stream around the socket of the connection; the responses belong to the socket.
 */
export function afterResponses(request: IncomingMessage, socket: Duplex, callback: () => void): void {
  // A request that was not read by Node, for `handleUpgrade` of `ws`, may have no socket.
  const connection: Duplex | undefined = request.socket
  const earlier: unknown = Reflect.get(connection ?? socket, '_httpMessage')
  if (earlier instanceof ServerResponse) {
    earlier.once('close', () => afterResponses(request, socket, callback))
  } else if (socket.writable) callback()
}

/** Fields that {@link refusalResponse} sets itself. */
const FRAMING = ['content-length', 'transfer-encoding']

/**
 * A whole response to a request that is refused. The connection ends after it.
 * @throws {TypeError} when the status does not refuse, or a header cannot be sent.
 */
export function refusalResponse({ status, message, headers }: Omit<Refusal, 'code'>): Buffer {
  const phrase = STATUS_CODES[status]
  if (phrase === undefined || status < 300) throw new TypeError(`${status} is not a status that refuses.`)
  const body = Buffer.from(message)
  const fields = new Map([
    ['connection', 'close'],
    ['content-type', 'text/plain; charset=utf-8']
  ])
  for (const [name, value] of Object.entries(headers)) fields.set(name.toLowerCase(), value)
  for (const name of FRAMING) fields.delete(name)
  let head = `HTTP/1.1 ${status} ${phrase}\r\n`
  for (const [name, value] of fields) head += headerField(name, value)
  return Buffer.concat([Buffer.from(`${head}content-length: ${body.length}\r\n\r\n`, 'latin1'), body])
}
