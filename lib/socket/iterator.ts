import type { Consumer, Source } from './consumer.js'

export type Message = string | Buffer

interface Waiting {
  readonly resolve: (result: IteratorResult<Message, undefined>) => void
  readonly reject: (error: unknown) => void
}

/**
 * Iterates over the messages of a connection: text as strings, binary messages as Buffers. A message is read when the
 * loop asks for it. The loop ends when the connection closes, for whatever reason.
 */
export class MessageIterator implements Consumer, AsyncIterableIterator<Message> {
  readonly #source: Source
  #waiting: Waiting[] = []
  #ended = false

  constructor(source: Source) {
    this.#source = source
  }

  get wantsMore(): boolean {
    return this.#waiting.length > 0
  }

  next(): Promise<IteratorResult<Message, undefined>> {
    if (this.#ended) return Promise.resolve({ done: true, value: undefined })
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#source.wanted()
    })
  }

  return(): Promise<IteratorResult<Message, undefined>> {
    if (!this.#ended) {
      this.onEnd()
      this.#source.release()
    }
    return Promise.resolve({ done: true, value: undefined })
  }

  onMessage(data: Buffer, isBinary: boolean): void {
    const waiting = this.#waiting.shift()
    try {
      waiting?.resolve({ done: false, value: isBinary ? data : data.toString() })
    } catch (error) {
      // More text than a string can hold. Who loops is told, not the process.
      waiting?.reject(error)
      void this.return()
    }
  }

  onEnd(): void {
    this.#ended = true
    for (const { resolve } of this.#waiting) resolve({ done: true, value: undefined })
    this.#waiting = []
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}
