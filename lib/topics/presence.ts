import { EventEmitter } from 'node:events'
import type { PresenceListener, PresenceMembers } from './presence-members.js'
import type { PresenceMember } from './presence-protocol.js'

/** The events of a {@link Presence} and their arguments. */
export interface PresenceEvents {
  join: [member: PresenceMember]
  leave: [member: PresenceMember]
}

interface PresenceOptions {
  readonly ready: Promise<void>
  readonly onClose: () => void
  /** Called with errors that listeners throw or reject with. */
  readonly onError: (error: unknown) => void
}

/** The presence members of a topic, in all processes, until {@link Presence.close}. */
export class Presence extends EventEmitter<PresenceEvents> {
  /**
   * Resolves when the other processes have had a quarter of a second to report their members, and at once without a broker.
   * It never rejects.
   */
  readonly ready: Promise<void>
  readonly #members: PresenceMembers
  readonly #listener: PresenceListener
  readonly #onClose: () => void
  readonly #onError: (error: unknown) => void

  /** @internal */
  constructor(members: PresenceMembers, { ready, onClose, onError }: PresenceOptions) {
    super({ captureRejections: true })
    this.ready = ready
    this.#members = members
    this.#onClose = onClose
    this.#onError = onError
    this.#listener = (event, member) => this.#notify(event, member)
    members.addListener(this.#listener)
  }

  /** The members by id. The map changes as members join and leave. */
  get members(): ReadonlyMap<string, PresenceMember> {
    return this.#members.all
  }

  /** Emits no more events. */
  close(): void {
    if (this.#members.removeListener(this.#listener)) this.#onClose()
  }

  /** A listener that throws must not affect other views of the topic. */
  #notify(event: 'join' | 'leave', member: PresenceMember): void {
    try {
      this.emit(event, member)
    } catch (error) {
      this.#onError(error)
    }
  }

  static {
    Object.defineProperty(Presence.prototype, EventEmitter.captureRejectionSymbol, {
      value(this: Presence, error: unknown) {
        this.#onError(error)
      }
    })
  }
}
