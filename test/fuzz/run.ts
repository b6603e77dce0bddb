import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import type { Test } from 'tap'
import { root } from '../helpers/root.js'

/** The duration and the seeds of the runs of a property. `npm run fuzz` sets these; see README.md here. */
const { FUZZ_RUNS, FUZZ_SECONDS, FUZZ_SEED, FUZZ_PATH, FUZZ_ONLY } = process.env

/** Whether the run includes all properties, or the one with this name. */
export function isWanted(name: string): boolean {
  return FUZZ_ONLY === undefined || FUZZ_ONLY === '' || FUZZ_ONLY === name
}

/**
 * Checks a property and prints the number of runs; a failure prints the seed and the case, which can become a fixture.
 */
export async function tryProperty<Case>(
  t: Test,
  name: string,
  property: fc.IRawProperty<Case>,
  runs: number
): Promise<void> {
  if (!isWanted(name)) return
  const details = await fc.check(property, {
    numRuns: FUZZ_RUNS ? Number(FUZZ_RUNS) * runs : runs,
    // Below tap's limit for a file, so that a slow machine runs fewer cases.
    interruptAfterTimeLimit: Number(FUZZ_SECONDS || 30) * 1000,
    markInterruptAsFailure: false,
    includeErrorInReport: true,
    ...(FUZZ_SEED ? { seed: Number(FUZZ_SEED) } : {}),
    ...(FUZZ_PATH ? { path: FUZZ_PATH } : {})
  })
  t.comment(`fuzz: ${name}: ${details.numRuns} runs, seed ${details.seed}`)
  t.ok(details.numRuns > 0, `${name} was tried`)
  if (details.failed) t.fail(`${name}: ${fc.defaultReportMessage(details)}`)
  else t.pass(name)
}

/** Cases that were found earlier, by file name: `fixtures/<kind>-*.json`. */
export function fixtures(kind: string): ReadonlyMap<string, unknown> {
  const folder = join(root, 'test', 'fuzz', 'fixtures')
  const files = readdirSync(folder).filter(file => file.startsWith(`${kind}-`) && file.endsWith('.json'))
  return new Map(files.sort().map(file => [file, JSON.parse(readFileSync(join(folder, file), 'utf8'))]))
}
