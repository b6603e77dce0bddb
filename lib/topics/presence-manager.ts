import { setTimeout as sleep } from 'node:timers/promises'
import type { BrokerLink } from './broker-link.js'
import { PresenceTooLongError } from './error.js'
import { Presence } from './presence.js'
import { PresenceMembers } from './presence-members.js'
import {
  MAX_MEMBER_SIZE,
  type PresenceMember,
  type PresenceMessage,
  parsePresence,
  statesOf
} from './presence-protocol.js'
import type { RemotePublication } from './publication.js'
import { type ReportSettings, ReportTimer } from './report-timer.js'

/** The time in milliseconds for other processes to reply to a query. */
const REPLY_TIME = 250

/** The presence members of all topics of a server, kept in step with the other processes. */
export class PresenceManager {
  readonly #link: BrokerLink | undefined
  readonly #onError: (error: unknown) => void
  /** By topic. */
  readonly #members = new Map<string, PresenceMembers>()
  /** Queries to other processes. Each resolves when they had time to reply. */
  readonly #queries = new WeakMap<PresenceMembers, Promise<void>>()
  readonly #timer: ReportTimer

  /** @param onError called with errors that listeners throw or reject with. */
  constructor(settings: ReportSettings, link: BrokerLink | undefined, onError: (error: unknown) => void) {
    this.#timer = new ReportTimer(settings, since => this.#onReport(since))
    this.#link = link
    this.#onError = onError
  }

  /**
   * @throws {TypeError} when the data of the member cannot be converted to JSON.
   * @throws {RangeError} `FST_UPGRADE_PRESENCE_TOO_LONG`
   */
  join(topic: string, member: PresenceMember): void {
    const json = JSON.stringify(member)
    const size = Buffer.byteLength(json)
    if (size > MAX_MEMBER_SIZE) throw new PresenceTooLongError(size)
    // This process sees the same data as the others.
    const copy: PresenceMember = JSON.parse(json)
    this.#acquire(topic).addOwn(copy)
    this.#publish(topic, { type: 'join', member: copy })
  }

  leave(topic: string, id: string): void {
    const members = this.#members.get(topic)
    if (members?.deleteOwn(id) !== true) return
    this.#publish(topic, { type: 'leave', id })
    this.#release(topic, members)
  }

  /** The number of members of this process. */
  ownCount(topic: string): number {
    return this.#members.get(topic)?.own.size ?? 0
  }

  watch(topic: string): Presence {
    const members = this.#acquire(topic)
    // One query serves all views of a topic.
    const ready = this.#queries.get(members) ?? this.#query(topic, members)
    this.#queries.set(members, ready)
    return new Presence(members, {
      ready,
      onClose: () => this.#release(topic, members),
      onError: this.#onError
    })
  }

  /** A message of another process has arrived. */
  onPublication(topic: string, { origin, payload }: RemotePublication): void {
    const members = this.#members.get(topic)
    const message = parsePresence(payload)
    if (members === undefined || message === undefined) return
    const now = performance.now()
    if (message.type === 'join') members.joinRemote(origin, message.member, now)
    else if (message.type === 'leave') members.leaveRemote(origin, message.id, now)
    else if (message.type === 'state') members.replaceRemote(origin, message.members, message, now)
    else this.#report(topic, members)
  }

  /** The broker has connected. Messages in both directions may have been lost before. */
  onUp(): void {
    for (const [topic, members] of this.#members) {
      this.#report(topic, members)
      this.#publish(topic, { type: 'ask' })
    }
  }

  close(): void {
    this.#timer.stop()
  }

  #acquire(topic: string): PresenceMembers {
    let members = this.#members.get(topic)
    if (members === undefined) {
      members = new PresenceMembers()
      this.#members.set(topic, members)
      // The link reports and retries subscriptions that fail.
      this.#link?.subscribe('presence', topic).catch(() => {})
      if (this.#link !== undefined) this.#timer.start()
    }
    return members
  }

  #release(topic: string, members: PresenceMembers): void {
    // A listener of the last leave may have released the topic and acquired it again.
    if (!members.isIdle || this.#members.get(topic) !== members) return
    this.#members.delete(topic)
    this.#link?.unsubscribe('presence', topic)
    if (this.#members.size === 0) this.#timer.stop()
  }

  /** Asks the other processes for their members, and resolves when they had time to reply. */
  async #query(topic: string, members: PresenceMembers): Promise<void> {
    if (this.#link === undefined) return
    try {
      await this.#link.subscribe('presence', topic)
    } catch {
      // The replies would not arrive. The next view asks again.
      this.#queries.delete(members)
      return
    }
    this.#publish(topic, { type: 'ask' })
    await sleep(REPLY_TIME)
  }

  #onReport(since: number): void {
    for (const [topic, members] of this.#members) {
      members.expire(since)
      this.#report(topic, members)
    }
  }

  #report(topic: string, members: PresenceMembers): void {
    for (const state of statesOf(members.own.values())) this.#publish(topic, state)
  }

  /** The next report repairs losses. */
  #publish(topic: string, message: PresenceMessage): void {
    const publication = { payload: JSON.stringify(message), isBinary: false, compress: false }
    this.#link?.publish('presence', topic, publication).catch(() => {})
  }
}
