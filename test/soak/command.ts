import { spawn } from 'node:child_process'
import { join } from 'node:path'
import type { Test } from 'tap'
import { root } from '../helpers/root.js'
import { withDeadline } from '../helpers/timeout.js'

export interface Outcome {
  readonly exitCode: number | null
  readonly stdout: string
  readonly stderr: string
  /** The JSON at the end of the output; empty if there is none. */
  readonly result: Record<string, unknown>
}

/**
 * The variables with which tap measures the coverage of children. It would slow them down, and they load the built
 * files.
 */
const COVERAGE = /^(NODE_OPTIONS|NODE_V8_COVERAGE|_?TAPJS?_.*)$/

/** Runs a command of `soak/` on the built project. */
export async function run(t: Test, file: string, args: readonly string[]): Promise<Outcome> {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !COVERAGE.test(name)))
  const child = spawn(process.execPath, [join(root, 'soak', file), ...args], {
    env,
    stdio: ['ignore', 'pipe', 'pipe']
  })
  // Its own children end when it does.
  t.teardown(() => child.kill('SIGKILL'))
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      output[name] += text
    })
  }
  const closed = new Promise<number | null>(resolve => child.once('close', resolve))
  const exitCode = await withDeadline(closed, 90_000, file)
  const start = output.stdout.indexOf('\n{')
  return { exitCode, ...output, result: start === -1 ? {} : JSON.parse(output.stdout.slice(start)) }
}

/** A member of an object from JSON. */
export function member(value: unknown, ...names: readonly string[]): unknown {
  let found = value
  for (const name of names) {
    if (typeof found !== 'object' || found === null) throw new Error(`there is no ${names.join('.')}`)
    found = Reflect.get(found, name)
  }
  return found
}

export function numberOf(value: unknown, ...names: readonly string[]): number {
  const found = member(value, ...names)
  if (typeof found !== 'number') throw new Error(`${names.join('.')} is no number`)
  return found
}
