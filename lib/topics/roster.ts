import type { IdRange, PresenceMember } from './presence-message.js'

/** What a view of a roster is told. */
export interface RosterView {
  onJoin(member: PresenceMember): void
  onLeave(member: PresenceMember): void
}

/** Members of another process. */
interface Remote {
  readonly members: Map<string, PresenceMember>
  heardAt: number
}

/** The members of one topic: this process's own, and what others have told of theirs. */
export class Roster {
  readonly views = new Set<RosterView>()
  readonly own = new Map<string, PresenceMember>()
  /** Resolves when others had time to tell of their members, once they were asked. */
  answered: Promise<void> | undefined
  readonly #remotes = new Map<string, Remote>()
  readonly #all = new Map<string, PresenceMember>()

  /** Of all processes, by id. */
  get members(): ReadonlyMap<string, PresenceMember> {
    return this.#all
  }

  /** Whether nobody needs it any more. */
  get isIdle(): boolean {
    return this.views.size === 0 && this.own.size === 0
  }

  addOwn(member: PresenceMember): void {
    this.own.set(member.id, member)
    this.#join(member)
  }

  /** @returns whether it was there. */
  deleteOwn(id: string): boolean {
    if (!this.own.delete(id)) return false
    this.#leave(id)
    return true
  }

  join(origin: string, member: PresenceMember, now: number): void {
    this.#remote(origin, now).members.set(member.id, member)
    this.#join(member)
  }

  leave(origin: string, id: string, now: number): void {
    if (this.#remote(origin, now).members.delete(id)) this.#leave(id)
  }

  /** All members of a process in a range, whatever was known of them. */
  replace(
    origin: string,
    members: readonly PresenceMember[],
    { from = '', before }: IdRange,
    now: number
  ): void {
    const remote = this.#remote(origin, now)
    const ids = new Set(members.map(({ id }) => id))
    for (const id of remote.members.keys()) {
      const isInRange = id >= from && (before === undefined || id < before)
      if (isInRange && !ids.has(id)) this.leave(origin, id, now)
    }
    for (const member of members) this.join(origin, member, now)
  }

  /** Forgets the processes that were not heard since a time. */
  expire(since: number): void {
    for (const [origin, { members, heardAt }] of this.#remotes) {
      if (heardAt >= since) continue
      this.#remotes.delete(origin)
      for (const id of members.keys()) this.#leave(id)
    }
  }

  #remote(origin: string, now: number): Remote {
    const remote = this.#remotes.get(origin) ?? { members: new Map(), heardAt: now }
    this.#remotes.set(origin, remote)
    remote.heardAt = now
    return remote
  }

  #join(member: PresenceMember): void {
    const isNew = !this.#all.has(member.id)
    this.#all.set(member.id, member)
    if (isNew) for (const view of this.views) view.onJoin(member)
  }

  #leave(id: string): void {
    const member = this.#all.get(id)
    if (member === undefined) return
    this.#all.delete(id)
    for (const view of this.views) view.onLeave(member)
  }
}
