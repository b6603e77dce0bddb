import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { stopGently } from '../helpers/program.js'
import { root } from '../helpers/root.js'
import { withDeadline } from '../helpers/timeout.js'

const BUILT = join(root, 'dist', 'examples', 'chat', 'server.js')

/** A running chat server. */
export interface Chat {
  readonly port: number
  readonly process: ChildProcess
}

export interface ChatOptions {
  readonly port?: number
  /** The file to run, by default that of `npm start`. */
  readonly server?: string
}

/** Runs the example. */
export async function startChat(t: Test, { port = 0, server = BUILT }: ChatOptions = {}): Promise<Chat> {
  const env = { ...process.env, PORT: String(port), HOST: '127.0.0.1' }
  const child = spawn(process.execPath, [server], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  // A process that is killed writes no coverage.
  t.teardown(() => stopGently(child))
  const [line]: unknown[] = await withDeadline(once(createInterface(child.stdout), 'line'), 10_000, 'start')
  const [, started] = /^Chat on https?:\/\/127\.0\.0\.1:(\d+) /.exec(String(line)) ?? []
  t.ok(started, String(line))
  return { port: Number(started), process: child }
}
