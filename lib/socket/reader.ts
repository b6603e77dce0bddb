import type { Consumer, Source } from './consumer.js'
import { AlreadyReadError } from './error.js'

/** What a reader needs of the WebSocket that it reads for. */
export interface Reads {
  setReading(reading: boolean): void
  /** Whether listeners of `message` do not keep up. */
  readonly isBehind: boolean
  listenerCount(event: 'message' | 'close' | 'ping' | 'pong'): number
  /** Tells `message` listeners. */
  tellMessage(data: Buffer, isBinary: boolean): void
  /** What the event `error` has told: what the peer did wrong, or that it did not read. */
  readonly failure: Error | undefined
  /** Runs something in the async context of the connection. */
  run(work: () => void): void
}

interface Message {
  readonly data: Buffer
  readonly isBinary: boolean
}

/**
 * Decides when a WebSocket reads, so that no message is told to nobody: while somebody takes messages, or once nobody
 * is to be waited for. A listener of `close`, `ping` or `pong` has it read up to the next message, which is kept.
 */
export class Reader implements Source {
  readonly #socket: Reads
  #isPaused = false
  #consumer: Consumer | undefined
  /** Whether to read although nobody takes the messages. */
  #readsAlways = false
  /** Whether to read although nobody takes the messages, and to keep them all. */
  readonly #keepsAll: boolean
  /** What waits for somebody who takes it, in order. */
  #kept: Message[] | undefined
  #isEnded = false
  #wasClean = false
  /** An update comes at the end of the tick. */
  #updates = false
  /** Whether messages go to listeners, and nothing has to be asked before each. */
  #isDirect = false

  constructor(socket: Reads, keepsAll: boolean) {
    this.#socket = socket
    this.#keepsAll = keepsAll
    if (keepsAll) this.updateSoon()
  }

  get isPaused(): boolean {
    return this.#isPaused
  }

  setPaused(isPaused: boolean): void {
    this.#isPaused = isPaused
    this.updateSoon()
  }

  readAlways(): void {
    this.#readsAlways = true
    this.updateSoon()
  }

  /** @throws {AlreadyReadError} while there is another consumer. */
  checkUnread(): void {
    if (this.#consumer !== undefined) throw new AlreadyReadError()
  }

  /** Gives all messages to a consumer from now on. When the connection is closed, it is told so after what is kept. */
  consume<Kind extends Consumer>(consumer: Kind): Kind {
    if (this.#isOver) {
      consumer.onEnd(this.#socket.failure, this.#wasClean)
      return consumer
    }
    this.checkUnread()
    this.#consumer = consumer
    this.updateSoon()
    return consumer
  }

  wanted(): void {
    this.#update()
  }

  release(): void {
    this.#consumer = undefined
    this.updateSoon()
  }

  onMessage(data: Buffer, isBinary: boolean): void {
    if (this.#isDirect) this.#socket.tellMessage(data, isBinary)
    else this.#giveMessage(data, isBinary)
  }

  #giveMessage(data: Buffer, isBinary: boolean): void {
    if (!this.#isTaken || this.#kept !== undefined || (this.#keepsAll && !this.#isWanted)) {
      this.#kept ??= []
      this.#kept.push({ data, isBinary })
    } else {
      this.#tell(data, isBinary)
      if (this.#consumer === undefined) return
    }
    this.#update()
  }

  #tell(data: Buffer, isBinary: boolean): void {
    this.#consumer?.onMessage(data, isBinary)
    this.#socket.tellMessage(data, isBinary)
  }

  /**
   * The connection is closed.
   * @param wasClean whether the closing handshake was finished and this side did not cut the connection.
   */
  onEnd(wasClean: boolean): void {
    this.#isPaused = false
    this.#isEnded = true
    this.#wasClean = wasClean
    if (!this.#keepsAll) this.#kept = undefined
    this.#endConsumer()
  }

  /** Whether no message will be told any more. */
  get #isOver(): boolean {
    return this.#isEnded && this.#kept === undefined
  }

  #endConsumer(): void {
    if (!this.#isOver) return
    this.#consumer?.onEnd(this.#socket.failure, this.#wasClean)
    this.#consumer = undefined
  }

  /** Stops at once; but what waits already is not told before the caller has returned. */
  updateSoon(): void {
    this.#isDirect = false
    if (!this.#isRead) this.#socket.setReading(false)
    else if (!this.#updates) {
      this.#updates = true
      process.nextTick(updateNow, this)
    }
  }

  /** @internal */
  updateNow(): void {
    this.#updates = false
    this.#update()
  }

  /** Whether there is somebody for a message. */
  get #isTaken(): boolean {
    return this.#consumer !== undefined || this.#readsAlways || this.#socket.listenerCount('message') > 0
  }

  get #isWanted(): boolean {
    if (this.#isPaused || this.#socket.isBehind) return false
    if (this.#consumer !== undefined) return this.#consumer.wantsMore
    return this.#isTaken || (this.#kept === undefined && this.#isWatched)
  }

  /** Whether what arrives is read, although it may have to wait for somebody. */
  get #isRead(): boolean {
    return this.#isWanted || (this.#keepsAll && !this.#isPaused)
  }

  get #isWatched(): boolean {
    const socket = this.#socket
    return socket.listenerCount('close') + socket.listenerCount('ping') + socket.listenerCount('pong') > 0
  }

  #update(): void {
    if (this.#kept !== undefined) this.#tellKept()
    this.#isDirect = this.#isWanted && this.#consumer === undefined && this.#isTaken
    this.#socket.setReading(this.#isRead)
  }

  #tellKept(): void {
    while (this.#isWanted && this.#isTaken) {
      const next = this.#kept?.shift()
      if (next === undefined) {
        this.#kept = undefined
        break
      }
      this.#socket.run(() => this.#tell(next.data, next.isBinary))
    }
    this.#endConsumer()
  }
}

function updateNow(reader: Reader): void {
  reader.updateNow()
}
