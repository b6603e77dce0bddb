import { once } from 'node:events'
import { join } from 'node:path'
import { start } from './program.js'
import { withDeadline } from './timeout.js'

export interface SlowReaderOptions {
  readonly port: number
  /** The number of bytes that it reads per second. */
  readonly rate: number
  readonly host?: string
  readonly path?: string
  /** Whether it uses TLS. */
  readonly secure?: boolean
}

/** The observations of a slow reader until its connection ended. */
export interface Seen {
  /** Bytes of messages. */
  readonly payload: number
  readonly pings: number
  /** The code of the Close frame; 0 for none. */
  readonly close: number
}

export interface SlowReader {
  /** Waits for the end of the connection. */
  seen(): Promise<Seen>
  /** Stops the process: nothing more is read, while its system still acknowledges data that fits its buffers. */
  stop(): void
}

/** Starts a client that reads slowly, in its own process. */
export function startSlowReader(
  t: { teardown(fn: () => void): unknown },
  options: SlowReaderOptions
): SlowReader {
  const program = join(import.meta.dirname, 'slow-reader-program.js')
  const child = start(t, process.execPath, [program, JSON.stringify(options)])
  let output = ''
  child.stdout.on('data', data => {
    output += data
  })
  const ended = once(child, 'close')
  return {
    seen: async () => {
      await withDeadline(ended, 60_000, 'the end of the slow reader')
      return JSON.parse(output)
    },
    stop: () => void child.kill('SIGSTOP')
  }
}
