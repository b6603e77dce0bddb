import { setImmediate } from '../limits/set-immediate.js'

/** Who has something to write. */
export interface Flushable {
  flush(): void
}

/** The most that wait for each other: what is sent last must not wait long for what was read first. */
const MAX_WAITING = 64

let waiting: Flushable[] = []
let scheduled = false

/** Flushes all who have something to write together, once what can be read has been read. */
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
    // One that throws, which a stream of the application might, does not keep the others.
    while (next < flushables.length) flushSoon(flushables[next++])
  }
}
