import type { ServerResponse } from 'node:http'
import type { ResponseOwner } from './channel.js'

// The response that an application writes to answer a handshake: refusals are sent, and the channel sends the acceptance.

/** The channel of a response, as far as the response needs it. */
export interface RespondingChannel {
  readonly isAnswered: boolean
  /** Whether the acceptance is sent. */
  readonly isAccepted: boolean
  /** The prototype that Node gave to the response. Express replaces it. */
  readonly responsePrototype: object
  /**
   * Called before the head of a refusal is written to the response.
   * @param rest the arguments of `writeHead` after the status.
   * @returns the arguments of `writeHead`, with everything that the version of HTTP does not have left out.
   */
  refusalHead(status: number, rest: readonly unknown[]): readonly unknown[]
  /** The head of a refusal is written to the response. */
  onHeadSent(): void
}

export const kChannel: unique symbol = Symbol('fastify-upgrade.channel')
export const kOwner: unique symbol = Symbol('fastify-upgrade.responseOwner')

/** A response that has {@link writeHead}, {@link end} and the {@link ACCESSORS}. */
export interface ChannelResponse extends ServerResponse {
  readonly [kChannel]: RespondingChannel
  readonly [kOwner]: ResponseOwner
}

/** Drops a second answer, such as that of a hook that the deadline has overtaken. */
export function writeHead<Response extends ChannelResponse>(
  this: Response,
  status: number,
  ...rest: readonly unknown[]
): Response {
  const channel = this[kChannel]
  if (channel.isAnswered) return this
  const refusal = this[kOwner].onHead(this, status, rest)
  if (refusal === undefined) return this
  applyOriginal(this, 'writeHead', channel.refusalHead(status, refusal))
  channel.onHeadSent()
  return this
}

export function end<Response extends ChannelResponse>(this: Response, ...rest: readonly unknown[]): Response {
  if (this.writableEnded || this[kOwner].onEnd()) return this
  applyOriginal(this, 'end', rest)
  return this
}

function applyOriginal(
  response: ChannelResponse,
  method: 'writeHead' | 'end',
  args: readonly unknown[]
): void {
  Reflect.apply(Reflect.get(response[kChannel].responsePrototype, method), response, args)
}

/** Fastify reads both to find out whether an answer is sent. */
export const ACCESSORS: PropertyDescriptorMap = {
  headersSent: { configurable: true, get: headersSent },
  writableEnded: { configurable: true, get: writableEnded }
}

function headersSent(this: ChannelResponse): boolean {
  const channel = this[kChannel]
  return channel.isAccepted || Reflect.get(channel.responsePrototype, 'headersSent', this)
}

function writableEnded(this: ChannelResponse): boolean {
  const channel = this[kChannel]
  return channel.isAccepted || Reflect.get(channel.responsePrototype, 'writableEnded', this)
}
