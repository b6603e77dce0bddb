// The settings that the server and its clients share.

/** A silent peer is cut after the sum of both. Clients on a busy machine answer much sooner. */
export const HEARTBEAT = { interval: 15_000, timeout: 10_000 }

/** The maximum time for which a client leaves its socket unread, so that it does not count as silent. */
export const STALL = 1500

export const CLOSE_TIMEOUT = 5000

/** Bytes a second. A peer that may be reading at this rate has time to answer. */
export const LOWEST_RATE = 4096

export const MAX_PAYLOAD = 1_048_576

/** A client that does not read the requested data is cut. */
export const MAX_BUFFERED = 4 * 2 ** 20
