import type { Duplex } from 'node:stream'
import type { Position } from '../../brokers/broker.js'
import type { SendData, SendOptions } from '../../socket/codec.js'
import type { ConnectionSetup } from '../../socket/options.js'
import { PreparedMessage, type PrepareOptions } from '../../socket/prepared-message.js'
import type { SendCallback } from '../../socket/sender.js'
import type { WebSocket as TransportWebSocket } from '../../socket/websocket.js'
import type { ConnectionDetails } from '../../topics/connections/connections.js'
import { type TopicPublishOptions, type TopicServer, WebSocket } from '../websocket.js'
import type { MessageSerializer } from './message-serializer.js'

/**
 * A connection of a route with the schema `send`: it serializes the values that it sends. As a class of its own it costs the
 * connections of other routes nothing.
 */
export class SerializingWebSocket extends WebSocket {
  readonly #serializer: MessageSerializer

  /** @internal */
  constructor(
    stream: Duplex,
    setup: ConnectionSetup<TransportWebSocket>,
    server: TopicServer,
    details: ConnectionDetails,
    serializer: MessageSerializer
  ) {
    super(stream, setup, server, details)
    this.#serializer = serializer
  }

  override send(data: unknown, options?: SendOptions | SendCallback, callback?: SendCallback): boolean {
    const message = this.#serializer.encode(data)
    if (typeof options === 'function') return super.send(message, options)
    if (message instanceof PreparedMessage) return super.send(message, callback)
    return super.send(message, options, callback)
  }

  override sendBytes(data: SendData, callback: SendCallback): boolean {
    return super.send(data, callback)
  }

  override prepare(data: unknown, options?: PrepareOptions): PreparedMessage {
    return super.prepare(this.#serializer.encode(data), options)
  }

  override publish(
    topic: string,
    data: unknown,
    options?: TopicPublishOptions
  ): Promise<Position | undefined> {
    return super.publish(topic, this.#serializer.encode(data), options)
  }
}
