/** The names that a channel has in Redis. */
export class RedisNames {
  readonly #prefix: string
  readonly #safePrefix: string
  readonly #sharded: boolean

  constructor(prefix: string, sharded: boolean) {
    this.#prefix = prefix
    // With a hash tag in the prefix, the application has put everything into one slot.
    this.#safePrefix = HASH_TAG.test(prefix) ? prefix : escaped(prefix)
    this.#sharded = sharded
  }

  /** The channel in which messages are published. */
  channelOf(channel: string): string {
    return this.#sharded ? this.#safePrefix + escaped(channel) : this.#prefix + channel
  }

  /** The reverse of {@link channelOf}. */
  parse(name: string): string {
    return this.#sharded
      ? decodeURIComponent(name.slice(this.#safePrefix.length))
      : name.slice(this.#prefix.length)
  }

  /**
   * The beginning of the keys of a history. In a cluster they are in one slot, which is also that of the sharded channel: the
   * hash tag is the whole name of that channel.
   */
  keyOf(channel: string): string {
    const name = this.#safePrefix + escaped(channel)
    return HASH_TAG.test(name) ? name : `{${name}}`
  }
}

/** As a cluster finds it: between the first brace and the next closing one, if there is something. */
const HASH_TAG = /^[^{]*\{[^}]+\}/

/** Only the braces matter to a cluster. */
function escaped(name: string): string {
  return name.replace(/[%{}]/g, encodeURIComponent)
}
