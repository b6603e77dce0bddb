import { setImmediate } from '../limits/deadline.js'

/** A connection with pending output. */
export interface Flushable {
  flush(): void
}

/** The largest number of connections that are flushed together: the first must not wait long for the last. */
const MAX_WAITING = 64

let waiting: Flushable[] = []
let scheduled = false

/** Flushes all connections with pending output together, once everything that can be read has been read. */
export function flushSoon(flushable: Flushable): void {
  const count = waiting.push(flushable)
  if (!scheduled) {
    scheduled = true
    setImmediate(onImmediate)
  } else if (count >= MAX_WAITING) flushAll()
}

function onImmediate(): void {
  scheduled = false
  flushAll()
}

function flushAll(): void {
  const flushables = waiting
  waiting = []
  let next = 0
  try {
    while (next < flushables.length) flushables[next++].flush()
  } finally {
    // If a flush throws, as a stream of the application may, the other connections are still flushed.
    while (next < flushables.length) flushSoon(flushables[next++])
  }
}
