// The part of a manager of `@nats-io/jetstream` that the broker uses.

export interface StreamConfig {
  readonly name: string
  readonly subjects: string[]
  readonly storage: 'file' | 'memory'
  readonly num_replicas: number
  /** Nanoseconds, as all times of JetStream. */
  readonly max_age: number
  readonly duplicate_window: number
  readonly republish?: { src: string; dest: string }
}

export interface StreamInfo {
  readonly config: StreamConfig & { readonly retention: string; readonly deny_purge?: boolean }
  /** The time of its creation. */
  readonly created: string
}

/** A message of a stream. */
export interface StoredRecord {
  readonly seq: number
  readonly data: Uint8Array
  readonly time: Date
}

export interface ConsumerInfo {
  readonly name: string
}

/** The result of `jetstreamManager()` of `@nats-io/jetstream`. */
export interface JetStreamManager {
  readonly streams: {
    info(stream: string): Promise<StreamInfo>
    add(config: StreamConfig): Promise<StreamInfo>
    purge(stream: string, options: { filter: string; seq?: number; keep?: number }): Promise<unknown>
    getMessage(
      stream: string,
      query: { seq: number; next_by_subj?: string } | { last_by_subj: string }
    ): Promise<StoredRecord | null>
    deleteMessage(stream: string, seq: number, erase?: boolean): Promise<boolean>
  }
  readonly consumers: {
    add(
      stream: string,
      config: {
        readonly deliver_policy: 'by_start_sequence'
        readonly opt_start_seq: number
        readonly ack_policy: 'none'
        readonly filter_subject: string
        readonly mem_storage: boolean
        readonly num_replicas: number
        readonly inactive_threshold: number
      }
    ): Promise<ConsumerInfo>
    delete(stream: string, consumer: string): Promise<boolean>
  }
  jetstream(): {
    publish(
      subject: string,
      payload: Uint8Array,
      options?: {
        readonly msgID?: string
        readonly expect?: { readonly streamName: string; readonly lastSubjectSequence: number }
        readonly timeout?: number
      }
    ): Promise<{ readonly seq: number; readonly duplicate: boolean }>
    readonly consumers: {
      getConsumerFromInfo(info: ConsumerInfo): {
        fetch(options: { max_messages: number; expires: number }): Promise<AsyncIterable<StoredRecord>>
      }
    }
  }
}
