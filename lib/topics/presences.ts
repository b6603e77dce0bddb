import { setTimeout as sleep } from 'node:timers/promises'
import { PresenceTooLongError } from '../brokers/error.js'
import type { Bus } from './bus.js'
import type { Envelope } from './envelope.js'
import { Presence } from './presence.js'
import {
  MAX_MEMBER_SIZE,
  type PresenceMember,
  type PresenceMessage,
  parsePresence,
  statesOf
} from './presence-message.js'
import { Roster } from './roster.js'

/** When processes tell of their members. */
export interface PresenceSettings {
  /** Milliseconds between two tellings. */
  readonly interval: number
  /** Milliseconds after which the members of a process that says nothing have left. */
  readonly timeout: number
}

/** Milliseconds that other processes have to answer. */
const ANSWER_TIME = 250

const AS_TEXT = { isBinary: false, compress: false } as const

/** The members of all topics of a server. */
export class Presences {
  readonly #settings: PresenceSettings
  readonly #bus: Bus | undefined
  readonly #onError: (error: unknown) => void
  readonly #rosters = new Map<string, Roster>()
  #timer: NodeJS.Timeout | undefined
  /** When it was last looked who has fallen silent. */
  #checkedAt = 0

  /** @param onError told what a listener throws or rejects with. */
  constructor(settings: PresenceSettings, bus: Bus | undefined, onError: (error: unknown) => void) {
    this.#settings = settings
    this.#bus = bus
    this.#onError = onError
  }

  /**
   * @throws {TypeError} when the data of the member cannot become JSON.
   * @throws {RangeError} `FST_UPGRADE_PRESENCE_TOO_LONG`
   */
  join(topic: string, member: PresenceMember): void {
    const json = JSON.stringify(member)
    const size = Buffer.byteLength(json)
    if (size > MAX_MEMBER_SIZE) throw new PresenceTooLongError(size)
    // What other processes see is what this one sees.
    const copy: PresenceMember = JSON.parse(json)
    this.#roster(topic).addOwn(copy)
    this.#publish(topic, { type: 'join', member: copy })
  }

  leave(topic: string, id: string): void {
    const roster = this.#rosters.get(topic)
    if (roster?.deleteOwn(id) !== true) return
    this.#publish(topic, { type: 'leave', id })
    this.#letGo(topic, roster)
  }

  watch(topic: string): Presence {
    const roster = this.#roster(topic)
    // Whoever looks later finds what is known by then.
    roster.answered ??= this.#ask(topic, roster)
    return new Presence(roster, roster.answered, {
      onClose: () => this.#letGo(topic, roster),
      onError: this.#onError
    })
  }

  /** Another process told something. */
  onEnvelope(topic: string, { origin, payload }: Envelope): void {
    const roster = this.#rosters.get(topic)
    const message = parsePresence(payload)
    if (roster === undefined || message === undefined) return
    const now = performance.now()
    if (message.type === 'join') roster.join(origin, message.member, now)
    else if (message.type === 'leave') roster.leave(origin, message.id, now)
    else if (message.type === 'state') roster.replace(origin, message.members, message, now)
    else this.#tell(topic, roster)
  }

  /** The engine is back: others may have missed something, and so may this process. */
  onUp(): void {
    for (const [topic, roster] of this.#rosters) {
      this.#tell(topic, roster)
      this.#publish(topic, { type: 'ask' })
    }
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #roster(topic: string): Roster {
    let roster = this.#rosters.get(topic)
    if (roster === undefined) {
      roster = new Roster()
      this.#rosters.set(topic, roster)
      // What fails is told by events and tried again.
      this.#bus?.subscribe('presence', topic).catch(() => {})
      if (this.#bus !== undefined && this.#timer === undefined) {
        this.#checkedAt = performance.now()
        this.#timer = setInterval(() => this.#onInterval(), this.#settings.interval).unref()
      }
    }
    return roster
  }

  #letGo(topic: string, roster: Roster): void {
    // Who was told of a leave may have begun anew.
    if (!roster.isIdle || this.#rosters.get(topic) !== roster) return
    this.#rosters.delete(topic)
    this.#bus?.unsubscribe('presence', topic)
    if (this.#rosters.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  async #ask(topic: string, roster: Roster): Promise<void> {
    if (this.#bus === undefined) return
    try {
      await this.#bus.subscribe('presence', topic)
    } catch {
      roster.answered = undefined
      return
    }
    this.#publish(topic, { type: 'ask' })
    await sleep(ANSWER_TIME)
  }

  #onInterval(): void {
    const { interval, timeout } = this.#settings
    const now = performance.now()
    // While this process itself was held up it heard nobody.
    const late = now - this.#checkedAt - interval
    this.#checkedAt = now
    const since = now - timeout - Math.max(late, 0)
    for (const [topic, roster] of this.#rosters) {
      roster.expire(since)
      this.#tell(topic, roster)
    }
  }

  #tell(topic: string, roster: Roster): void {
    for (const state of statesOf(roster.own.values())) this.#publish(topic, state)
  }

  /** What is lost is made up for by the next telling. */
  #publish(topic: string, message: PresenceMessage): void {
    this.#bus?.publish('presence', topic, JSON.stringify(message), AS_TEXT).catch(() => {})
  }
}
