import type { IdRange, PresenceMember } from './presence-protocol.js'

/** Called when a member joins or leaves. */
export type PresenceListener = (event: 'join' | 'leave', member: PresenceMember) => void

/** The members that another process has reported. */
interface RemoteMembers {
  readonly members: Map<string, PresenceMember>
  /** When the process was last heard. */
  heardAt: number
}

/** The presence members of one topic: those of this process, and those that other processes have reported. */
export class PresenceMembers {
  readonly #listeners = new Set<PresenceListener>()
  readonly #own = new Map<string, PresenceMember>()
  /** By the id of the other process. */
  readonly #remote = new Map<string, RemoteMembers>()
  readonly #all = new Map<string, PresenceMember>()

  /** The members of this process by id. */
  get own(): ReadonlyMap<string, PresenceMember> {
    return this.#own
  }

  /** The members of all processes by id. */
  get all(): ReadonlyMap<string, PresenceMember> {
    return this.#all
  }

  /** Whether there are neither listeners nor members of this process. */
  get isIdle(): boolean {
    return this.#listeners.size === 0 && this.#own.size === 0
  }

  addListener(listener: PresenceListener): void {
    this.#listeners.add(listener)
  }

  /** @returns false if it was not there. */
  removeListener(listener: PresenceListener): boolean {
    return this.#listeners.delete(listener)
  }

  addOwn(member: PresenceMember): void {
    this.#own.set(member.id, member)
    this.#join(member)
  }

  /** @returns false if it was not there. */
  deleteOwn(id: string): boolean {
    if (!this.#own.delete(id)) return false
    this.#leave(id)
    return true
  }

  // Reports of another process, with the time at which they arrived.

  joinRemote(origin: string, member: PresenceMember, now: number): void {
    this.#heard(origin, now).set(member.id, member)
    this.#join(member)
  }

  leaveRemote(origin: string, id: string, now: number): void {
    if (this.#heard(origin, now).delete(id)) this.#leave(id)
  }

  /** Replaces the members of a process whose ids are in a range. */
  replaceRemote(
    origin: string,
    members: readonly PresenceMember[],
    { from = '', before }: IdRange,
    now: number
  ): void {
    const ids = new Set(members.map(({ id }) => id))
    for (const id of this.#heard(origin, now).keys()) {
      const isInRange = id >= from && (before === undefined || id < before)
      if (isInRange && !ids.has(id)) this.leaveRemote(origin, id, now)
    }
    for (const member of members) this.joinRemote(origin, member, now)
  }

  /** Removes the members of processes that were last heard before a time. */
  expire(since: number): void {
    for (const [origin, { members, heardAt }] of this.#remote) {
      if (heardAt >= since) continue
      this.#remote.delete(origin)
      for (const id of members.keys()) this.#leave(id)
    }
  }

  #heard(origin: string, now: number): Map<string, PresenceMember> {
    const remote = this.#remote.get(origin) ?? { members: new Map(), heardAt: now }
    this.#remote.set(origin, remote)
    remote.heardAt = now
    return remote.members
  }

  #join(member: PresenceMember): void {
    const isNew = !this.#all.has(member.id)
    this.#all.set(member.id, member)
    if (isNew) for (const listener of this.#listeners) listener('join', member)
  }

  #leave(id: string): void {
    const member = this.#all.get(id)
    if (member === undefined) return
    this.#all.delete(id)
    for (const listener of this.#listeners) listener('leave', member)
  }
}
