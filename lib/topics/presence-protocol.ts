/** A presence member of a topic: a connection in any process. */
export interface PresenceMember {
  readonly id: string
  /** The data that the application attached, after a conversion to JSON and back. */
  readonly data: unknown
}

/** A range of ids. */
export interface IdRange {
  /** The first id. Default: the range has no lower limit. */
  readonly from?: string | undefined
  /** The id after the last one. Default: the range has no upper limit. */
  readonly before?: string | undefined
}

/** The messages that processes exchange about their members of a topic. */
export type PresenceMessage =
  /** A process that starts to watch the topic asks the others for their members. */
  | { readonly type: 'ask' }
  /**
   * All members of the sender whose ids are in a range. Processes repeat this message, so a silent process has crashed.
   */
  | ({ readonly type: 'state'; readonly members: readonly PresenceMember[] } & IdRange)
  | { readonly type: 'join'; readonly member: PresenceMember }
  | { readonly type: 'leave'; readonly id: string }

/** The maximum size of a member as JSON, in bytes. */
export const MAX_MEMBER_SIZE = 65_536

/** The maximum size of the members in one message, in bytes, as engines limit messages. One member may be larger. */
const MAX_STATE_SIZE = 65_536

/** @returns the `state` messages that together report all members. */
export function statesOf(members: Iterable<PresenceMember>): PresenceMessage[] {
  const parts: PresenceMember[][] = []
  let free = 0
  for (const member of [...members].sort((a, b) => (a.id < b.id ? -1 : 1))) {
    // Includes the comma.
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

/** @returns undefined for bytes that are not a {@link PresenceMessage}. */
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
