// What the server and its clients have to agree on.

/** A peer that stays silent is cut after the sum of both. Far more than clients on a busy machine need for an answer. */
export const HEARTBEAT = { interval: 15_000, timeout: 10_000 }

/** A client may leave its socket unread for so long; it must not pass for a silent one. */
export const STALL = 1500

export const CLOSE_TIMEOUT = 5000

/** Bytes a second. A peer that may be reading at this rate has time to answer. */
export const LOWEST_RATE = 4096

export const MAX_PAYLOAD = 1_048_576

/** A client that does not read what it asks for is cut. */
export const MAX_BUFFERED = 4 * 2 ** 20
