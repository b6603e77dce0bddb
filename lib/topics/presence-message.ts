/** A member of a topic: a connection, of whichever process. */
export interface PresenceMember {
  readonly id: string
  /** What the application said of it; it has to survive JSON. */
  readonly data: unknown
}

/** Ids from one on, and before another; without them from the first to the last. */
export interface IdRange {
  readonly from?: string | undefined
  readonly before?: string | undefined
}

/** What processes tell each other about their members of a topic. */
export type PresenceMessage =
  /** A process that watches the topic from now on asks who is there. */
  | { readonly type: 'ask' }
  /**
   * All members of the sender whose ids are in a range. All are told again and again: whoever falls silent has crashed.
   */
  | ({ readonly type: 'state'; readonly members: readonly PresenceMember[] } & IdRange)
  | { readonly type: 'join'; readonly member: PresenceMember }
  | { readonly type: 'leave'; readonly id: string }

/** Bytes of JSON that a member may have. */
export const MAX_MEMBER_SIZE = 65_536

/** Bytes of the members in one message, unless it is one alone: engines take only so much at a time. */
const MAX_STATE_SIZE = 65_536

/** What tells of all members, in as many messages as it takes. */
export function statesOf(members: Iterable<PresenceMember>): PresenceMessage[] {
  const parts: PresenceMember[][] = []
  let free = 0
  for (const member of [...members].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    // With the comma.
    const size = Buffer.byteLength(JSON.stringify(member)) + 1
    free -= size
    if (free < 0) {
      free = MAX_STATE_SIZE - size
      parts.push([])
    }
    parts.at(-1)?.push(member)
  }
  return parts.map((part, i) => ({
    type: 'state',
    from: i === 0 ? undefined : part[0].id,
    before: parts[i + 1]?.[0].id,
    members: part
  }))
}

/** @returns undefined for what no process of this application wrote. */
export function parsePresence(bytes: Uint8Array): PresenceMessage | undefined {
  let message: unknown
  try {
    message = JSON.parse(Buffer.from(bytes).toString())
  } catch {
    return undefined
  }
  return isPresenceMessage(message) ? message : undefined
}

function isPresenceMessage(message: unknown): message is PresenceMessage {
  if (typeof message !== 'object' || message === null || !('type' in message)) return false
  switch (message.type) {
    case 'ask':
      return true
    case 'state':
      return (
        'members' in message &&
        Array.isArray(message.members) &&
        message.members.every(isMember) &&
        isId(Reflect.get(message, 'from') ?? '') &&
        isId(Reflect.get(message, 'before') ?? '')
      )
    case 'join':
      return 'member' in message && isMember(message.member)
    case 'leave':
      return 'id' in message && isId(message.id)
    default:
      return false
  }
}

function isMember(member: unknown): member is PresenceMember {
  return typeof member === 'object' && member !== null && 'id' in member && isId(member.id)
}

function isId(id: unknown): id is string {
  return typeof id === 'string'
}
