import type { IncomingMessage, ServerResponse } from 'node:http'
import type { ServerHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { isHopByHop } from '../protocol/handshake/header-field.js'
import { checkConnect, ENDED_STREAM, type Handshake, type Refusal } from '../protocol/handshake/request.js'
import { type Acceptance, acceptFields } from '../protocol/handshake/response.js'
import { cutStream } from '../socket/byte-stream.js'
import type { ChannelOwner, ResponseOwner, UpgradeChannel } from './channel.js'
import { ACCESSORS, end, kChannel, kOwner, type RespondingChannel, writeHead } from './channel-response.js'

/** A request over HTTP/2 as Node's compatibility API presents it: with the properties of one over HTTP/1.1. */
export interface Http2Request extends IncomingMessage {
  readonly stream: ServerHttp2Stream
}

/** Events of a stream that the compatibility API passes on to the request and the response. */
const PASSED_ON = ['aborted', 'end', 'close'] as const

/**
 * The upgrade channel of HTTP/2, RFC 8441: an extended CONNECT, whose stream carries the frames after a response with
 * status 200. The other streams of the session are not affected.
 */
export class Http2Channel implements UpgradeChannel, RespondingChannel {
  readonly acceptStatus = 200
  readonly request: Http2Request
  readonly stream: ServerHttp2Stream
  readonly responsePrototype: object
  readonly #response: ServerResponse
  #answer: 'none' | 'refused' | 'accepted' = 'none'
  #owner: ChannelOwner | undefined
  /** The listeners of the compatibility API. */
  readonly #passers: readonly (readonly unknown[])[]

  /**
   * @param request the request of the event `connect`. It is presented as the GET that it would be over HTTP/1.1.
   * @param response the response of the event.
   */
  constructor(request: Http2Request, response: ServerResponse) {
    const { stream, headers } = request
    this.request = request
    this.stream = stream
    this.#response = response
    this.responsePrototype = Object.getPrototypeOf(response)
    this.#passers = PASSED_ON.map(event => stream.listeners(event))
    request.method = 'GET'
    // RFC 9113 section 8.3.1: the value of Host where a request is made one of HTTP/1.1.
    const authority = headers[':authority']
    if (typeof authority === 'string') headers.host = authority
  }

  get isAnswered(): boolean {
    return this.#answer !== 'none'
  }

  get isAccepted(): boolean {
    return this.#answer === 'accepted'
  }

  get isOpen(): boolean {
    return this.stream.writable
  }

  readHandshake(): Handshake | Refusal {
    // RFC 8441 section 5: the end of the stream is the end of TCP.
    return this.stream.endAfterHeaders ? ENDED_STREAM : checkConnect(this.request)
  }

  begin(owner: ChannelOwner, onTurn: () => void): void {
    this.#owner = owner
    onTurn()
    // An acceptance or a release in the same tick has ended the watch already.
    if (this.#owner !== owner) return
    this.stream.on('finish', this.#onFinish)
    this.stream.on('close', this.#onClose)
  }

  readonly #onFinish = (): void => this.#owner?.onRefused()

  readonly #onClose = (): void => {
    const owner = this.#owner
    this.release()
    owner?.onClose()
  }

  release(): void {
    this.#owner = undefined
    this.stream.off('finish', this.#onFinish)
    this.stream.off('close', this.#onClose)
  }

  accept(acceptance: Acceptance): Duplex {
    const { stream, request } = this
    const owner = this.#owner
    stream.respond({ ...acceptFields(acceptance), ':status': this.acceptStatus })
    this.#answer = 'accepted'
    this.release()
    // The request has ended, and its end no longer depends on the stream.
    for (const [i, event] of PASSED_ON.entries())
      for (const passOn of this.#passers[i]) Reflect.apply(stream.off, stream, [event, passOn])
    request.push(null)
    owner?.onAccepted()
    return stream
  }

  refuse({ status, message, headers }: Omit<Refusal, 'code'>): void {
    const body = Buffer.from(message)
    this.#answer = 'refused'
    this.stream.respond({
      'content-type': 'text/plain; charset=utf-8',
      ...headers,
      'content-length': body.length,
      ':status': status
    })
    this.stream.end(body)
  }

  respond(owner: ResponseOwner): ServerResponse {
    const response = this.#response
    Object.assign(response, { [kChannel]: this, [kOwner]: owner, writeHead, end })
    return Object.defineProperties(response, ACCESSORS)
  }

  /** Node throws on hop-by-hop fields, which hooks may set for HTTP/1.1. */
  refusalHead(status: number, rest: readonly unknown[]): readonly unknown[] {
    const response = this.#response
    for (const name of response.getHeaderNames()) if (isHopByHop(name)) response.removeHeader(name)
    const last = rest.at(-1)
    const fields = Object.entries(Object(last)).filter(([name]) => !isHopByHop(name))
    // RFC 9110 section 9.3.6: every 2xx would accept.
    return [status < 300 ? 500 : status, Array.isArray(last) ? last : Object.fromEntries(fields)]
  }

  onHeadSent(): void {
    this.#answer = 'refused'
  }

  abortRequest(): void {
    // Node has done it when the stream closed.
  }

  destroy(): void {
    cutStream(this.stream)
  }
}
