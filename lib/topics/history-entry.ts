import type { Position } from '../brokers/broker.js'
import type { Publication, RemotePublication } from './publication.js'

/** A message of a topic with history. */
export class TopicPublication {
  readonly topic: string
  /** The position in the history. Offsets count from 1 without gaps. */
  readonly offset: number
  readonly epoch: string
  readonly isBinary: boolean
  readonly #payload: Uint8Array
  #data: string | Buffer | undefined

  /** @internal */
  constructor(topic: string, { offset, epoch }: Position, { payload, isBinary }: RemotePublication) {
    this.topic = topic
    this.offset = offset
    this.epoch = epoch
    this.isBinary = isBinary
    this.#payload = payload
  }

  /** A string for text, and a Buffer for binary. */
  get data(): string | Buffer {
    if (this.#data === undefined) {
      const { buffer, byteOffset, byteLength } = this.#payload
      const bytes = Buffer.from(buffer, byteOffset, byteLength)
      this.#data = this.isBinary ? bytes : bytes.toString()
    }
    return this.#data
  }
}

/** Makes the message that subscribers get from a publication. */
export type Deliver<Message> = (publication: TopicPublication) => Message

/** Creates the message that subscribers get without a function of their own. */
export type Prepare<Message> = (
  payload: Uint8Array,
  options: { binary: boolean; compress: boolean }
) => Message

/** A message made by one function; undefined when the function has thrown. */
interface Made<Message> {
  readonly deliver: Deliver<Message> | undefined
  readonly message: Message | undefined
}

/** A publication on its way to subscribers. Each kind of message is made once for all of them. */
export class HistoryEntry<Message extends Publication> {
  readonly offset: number
  readonly remote: RemotePublication
  readonly #topic: string
  readonly #epoch: string
  /** There are few functions, so a scan is cheaper than a map. */
  readonly #made: Made<Message>[] = []

  constructor(topic: string, { offset, epoch }: Position, remote: RemotePublication) {
    this.offset = offset
    this.remote = remote
    this.#topic = topic
    this.#epoch = epoch
  }

  /** @returns undefined when the application's function throws, which `onError` gets once. */
  messageFor(
    deliver: Deliver<Message> | undefined,
    prepare: Prepare<Message>,
    onError: (error: unknown) => void
  ): Message | undefined {
    for (const made of this.#made) if (made.deliver === deliver) return made.message
    const { payload, isBinary, compress } = this.remote
    let message: Message | undefined
    try {
      message =
        deliver === undefined
          ? prepare(payload, { binary: isBinary, compress })
          : deliver(this.toPublication())
    } catch (error) {
      onError(error)
    }
    this.#made.push({ deliver, message })
    return message
  }

  toPublication(): TopicPublication {
    return new TopicPublication(this.#topic, { offset: this.offset, epoch: this.#epoch }, this.remote)
  }
}
