import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Handshake, Refusal } from '../protocol/handshake/request.js'
import type { Acceptance } from '../protocol/handshake/response.js'

/** The handshake on a channel. The channel notifies it of its end. */
export interface ChannelOwner {
  /** A refusal is sent. The client still has to read it and to close. */
  onRefused(): void
  /** The handshake is accepted: the stream belongs to the WebSocket. */
  onAccepted(): void
  /** The connection is closed, with or without an answer. */
  onClose(): void
}

/** Sorts the answers that an application writes to the response of a channel: a refusal, or the acceptance of the handshake. */
export interface ResponseOwner {
  /**
   * @param rest the arguments of `writeHead` after the status.
   * @returns those arguments for the head of a refusal; undefined for an acceptance, which the response does not write.
   */
  onHead(response: ServerResponse, status: number, rest: readonly unknown[]): readonly unknown[] | undefined
  /** @returns whether the answer is an acceptance, which the response does not write. */
  onEnd(): boolean
}

/**
 * A request for a WebSocket and the way to answer it. Everything that differs between versions of HTTP is behind this
 * interface: one class implements it for each version.
 */
export interface UpgradeChannel {
  /** The request, with the method GET. Over HTTP/2 it is Node's compatible request, which has the same properties. */
  readonly request: IncomingMessage
  /**
   * The socket of an HTTP/1.1 connection, or a stream of an HTTP/2 one. It carries the frames once the handshake is accepted.
   * Its write callbacks are the write progress for the heartbeat, where it has no handle that counts the bytes.
   */
  readonly stream: Duplex
  /** The status of an acceptance: 101, or over HTTP/2 200. */
  readonly acceptStatus: number
  /** Whether an answer is sent, or at least its head. */
  readonly isAnswered: boolean
  /** Whether the client can still be answered. */
  readonly isOpen: boolean
  /** Checks the request by the rules of its HTTP version. */
  readHandshake(): Handshake | Refusal
  /**
   * Watches the connection for `owner`, and calls `onTurn` once the request may be answered: at once, or after the
   * responses to earlier requests. It is not called when the connection closes before.
   */
  begin(owner: ChannelOwner, onTurn: () => void): void
  /** Stops watching. The request can begin again with another owner. */
  release(): void
  /**
   * Accepts the handshake.
   * @returns the stream that carries the frames.
   * @throws {TypeError} when a header cannot be sent. Then nothing is sent.
   */
  accept(acceptance: Acceptance): Duplex
  /**
   * Refuses the handshake, then reads until the client closes.
   * @throws {TypeError} when the status does not refuse, or a header cannot be sent. Then nothing is sent.
   */
  refuse(refusal: Omit<Refusal, 'code'>): void
  /** A response for an application that answers by itself. It is to be made once the turn of the request has come. */
  respond(owner: ResponseOwner): ServerResponse
  /**
   * Ends the request of a client that went away before the answer, as Node does with ordinary requests: `request.signal`
   * and `onRequestAbort` follow.
   */
  abortRequest(): void
  /** Cuts the connection, or on HTTP/2 the stream. */
  destroy(): void
}
