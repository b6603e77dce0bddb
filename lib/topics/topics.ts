const NOBODY: ReadonlySet<never> = new Set<never>()

/** Who is subscribed to which topic. */
export class Topics<Member> {
  readonly #members = new Map<string, Set<Member>>()

  add(topic: string, member: Member): void {
    const members = this.#members.get(topic)
    if (members === undefined) this.#members.set(topic, new Set([member]))
    else members.add(member)
  }

  /** @returns whether it was the last of the topic. */
  delete(topic: string, member: Member): boolean {
    const members = this.#members.get(topic)
    if (members?.delete(member) !== true || members.size > 0) return false
    return this.#members.delete(topic)
  }

  membersOf(topic: string): ReadonlySet<Member> {
    return this.#members.get(topic) ?? NOBODY
  }
}
