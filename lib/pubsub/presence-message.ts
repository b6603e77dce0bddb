/** A member of a topic: a connection, of whichever process. */
export interface PresenceMember {
  readonly id: string
  /** What the application said of it; it has to survive JSON. */
  readonly data: unknown
}

/** What processes tell each other about their members of a topic. */
export type PresenceMessage =
  /** A process that watches the topic from now on asks who is there. */
  | { readonly type: 'ask' }
  /** All members of the sender. It is told again and again: whoever falls silent has crashed. */
  | { readonly type: 'state'; readonly members: readonly PresenceMember[] }
  | { readonly type: 'join'; readonly member: PresenceMember }
  | { readonly type: 'leave'; readonly id: string }

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
      return 'members' in message && Array.isArray(message.members) && message.members.every(isMember)
    case 'join':
      return 'member' in message && isMember(message.member)
    case 'leave':
      return 'id' in message && typeof message.id === 'string'
    default:
      return false
  }
}

function isMember(member: unknown): member is PresenceMember {
  return typeof member === 'object' && member !== null && 'id' in member && typeof member.id === 'string'
}
