import { EventEmitter } from 'node:events'
import type { PresenceMember } from './presence-message.js'
import type { Roster, RosterView } from './roster.js'

/** The events of a {@link Presence} and their arguments. */
export interface PresenceEvents {
  join: [member: PresenceMember]
  leave: [member: PresenceMember]
}

/** Whoever made a {@link Presence}. */
export interface PresenceOwner {
  onClose(): void
  /** Told what a listener threw or rejected with. */
  onError(error: unknown): void
}

/** Who is in a topic, in all processes, from now on until {@link Presence.close}. */
export class Presence extends EventEmitter<PresenceEvents> {
  /**
   * Resolves when the other processes have had a quarter of a second to tell of their members; without a broker at once.
   * It never rejects.
   */
  readonly ready: Promise<void>
  readonly #roster: Roster
  readonly #view: RosterView
  readonly #owner: PresenceOwner

  /** @internal */
  constructor(roster: Roster, ready: Promise<void>, owner: PresenceOwner) {
    super({ captureRejections: true })
    this.ready = ready
    this.#roster = roster
    this.#owner = owner
    this.#view = {
      onJoin: member => this.#tell('join', member),
      onLeave: member => this.#tell('leave', member)
    }
    roster.views.add(this.#view)
  }

  /** The members by their id. It changes as they come and go. */
  get members(): ReadonlyMap<string, PresenceMember> {
    return this.#roster.members
  }

  /** Tells nothing from now on. */
  close(): void {
    if (this.#roster.views.delete(this.#view)) this.#owner.onClose()
  }

  /** What a listener throws keeps nobody else from learning it. */
  #tell(event: 'join' | 'leave', member: PresenceMember): void {
    try {
      this.emit(event, member)
    } catch (error) {
      this.#owner.onError(error)
    }
  }

  static {
    Object.defineProperty(Presence.prototype, EventEmitter.captureRejectionSymbol, {
      value(this: Presence, error: unknown) {
        this.#owner.onError(error)
      }
    })
  }
}
