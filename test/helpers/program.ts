import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { createServer } from 'node:net'
import { withDeadline } from './timeout.js'

/** A program that is not part of Node and may be missing. */
export interface Program {
  readonly path: string
  /** The reason to skip the tests with it, for tap's `skip` option; false when they run. */
  readonly skip: string | false
}

/** @param usual the path of the program unless `<NAME>_PATH` is set. */
export function program(name: string, usual: string): Program {
  const variable = name.toUpperCase().replaceAll('-', '_')
  const path = process.env[`${variable}_PATH`] || usual
  return { path, skip: skipReason(name, variable, path) }
}

function skipReason(name: string, variable: string, path: string): string | false {
  const reason = process.env[`TEST_SKIP_${variable}`]
  if (reason) return reason
  const { CI } = process.env
  // A run that requires the program fails at its start, rather than passing without the tests.
  if (CI && CI !== 'false') return false
  return existsSync(path) ? false : `no ${name} at ${path} (${variable}_PATH names another)`
}

/** Starts a program, which is killed when `t` ends. */
export function start(
  t: { teardown(fn: () => void): unknown },
  path: string,
  args: readonly string[],
  options: { readonly env?: NodeJS.ProcessEnv } = {}
): ChildProcessWithoutNullStreams {
  const child = spawn(path, args, options)
  t.teardown(() => child.kill('SIGKILL'))
  return child
}

/** Sends SIGTERM to a program and waits for its exit, so that it can write its data. */
export async function stopGently(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  try {
    await withDeadline(exited, 20_000, 'exit after SIGTERM')
  } finally {
    child.kill('SIGKILL')
  }
}

/** The output of a program until its end. */
export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end. */
export async function run(
  t: { teardown(fn: () => void): unknown },
  path: string,
  args: readonly string[]
): Promise<Ended> {
  const child = start(t, path, args)
  const written = { stdout: '', stderr: '' }
  child.stdout.on('data', data => {
    written.stdout += data
  })
  child.stderr.on('data', data => {
    written.stderr += data
  })
  const [code]: unknown[] = await withDeadline(once(child, 'close'), 20_000, path)
  return { code: typeof code === 'number' ? code : null, ...written }
}

/** A port for a program that cannot choose one itself. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
