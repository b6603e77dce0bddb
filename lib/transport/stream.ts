import { Duplex, type DuplexOptions } from 'node:stream'
import { NORMAL_CLOSURE } from '../core/close-code.js'
import type { Consumer, Source } from './consumer.js'
import type { SendData } from './payload.js'
import type { SendCallback } from './transport.js'

/** The part of a WebSocket that a stream writes to. */
export interface Sink {
  send(data: SendData, callback: SendCallback): boolean
  close(code: number): void
  terminate(): void
}

/**
 * A WebSocket as a Duplex. What is read are the payloads of the messages; what is written leaves as messages, strings
 * as text when `decodeStrings` is false and bytes as binary messages. Ending it closes the connection with 1000,
 * destroying it cuts the connection.
 */
export class WebSocketStream extends Duplex implements Consumer {
  readonly #source: Source
  readonly #sink: Sink
  /** Read ahead although nobody reads this side: pings are answered then, and a close is seen. */
  #wantsMore = true
  #closed = false
  #finish: ((error?: Error | null) => void) | undefined

  constructor(source: Source, sink: Sink, options: DuplexOptions = {}) {
    super({ ...options, emitClose: true })
    this.#source = source
    this.#sink = sink
  }

  get wantsMore(): boolean {
    return this.#wantsMore
  }

  onMessage(data: Buffer, isBinary: boolean): void {
    const text = !isBinary && this.readableObjectMode
    this.#wantsMore = this.push(text ? data.toString() : data)
  }

  onEnd(): void {
    this.#closed = true
    this.push(null)
    this.#finish?.()
  }

  override _read(): void {
    this.#wantsMore = true
    this.#source.wanted()
  }

  override _write(chunk: SendData, _encoding: BufferEncoding, callback: SendCallback): void {
    try {
      this.#sink.send(chunk, callback)
    } catch (error) {
      // Not thrown at who wrote, which may be a pipe that nobody stands behind.
      callback(error as Error)
    }
  }

  /** Finished when the closing handshake is. */
  override _final(callback: (error?: Error | null) => void): void {
    if (this.#closed) {
      callback()
      return
    }
    this.#finish = callback
    this.#sink.close(NORMAL_CLOSURE)
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#source.release()
    if (!this.#closed) this.#sink.terminate()
    callback(error)
  }
}
