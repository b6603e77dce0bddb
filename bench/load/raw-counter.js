/** Counts the messages in a raw echo, by their size. */
export class RawCounter {
  /** Bytes of all messages. */
  bytes = 0
  #size
  #rest = 0

  /** @param {number} size of a message on the wire. */
  constructor(size) {
    this.#size = size
  }

  /**
   * @param {Uint8Array} _chunk
   * @param {number} start
   * @param {number} end
   * @returns {number} messages that end in the chunk.
   */
  push(_chunk, start, end) {
    this.bytes += end - start
    this.#rest += end - start
    const messages = Math.floor(this.#rest / this.#size)
    this.#rest -= messages * this.#size
    return messages
  }

  takePings() {
    return 0
  }
}
