import { mkdir, writeFile } from 'node:fs/promises'
import os from 'node:os'
import { join } from 'node:path'
import { ROOT } from '../harness/build.js'
import { command } from '../harness/command.js'

const FOLDER = join(ROOT, 'bench', 'results')

/** The machine of the figures. Its name is not useful, so it is left out. */
export function machine() {
  const cpus = os.cpus()
  return {
    cpu: cpus[0]?.model ?? 'unknown',
    cores: cpus.length,
    memoryGib: round(os.totalmem() / 2 ** 30),
    system: `${os.type()} ${os.release()} ${os.arch()}`
  }
}

/** The commit that is checked out, and whether files differ from it. */
export async function commit() {
  try {
    const name = await command('git', ['rev-parse', '--short', 'HEAD'], { cwd: ROOT })
    const changes = await command('git', ['status', '--porcelain', '--', 'lib', 'types'], { cwd: ROOT })
    return changes === '' ? name : `${name}, with changes`
  } catch {
    return 'unknown'
  }
}

/**
 * Writes a file of the results, and says so.
 * @param {string} name
 * @param {string} text
 */
export async function writeResult(name, text) {
  await mkdir(FOLDER, { recursive: true })
  await writeFile(join(FOLDER, name), text)
  console.log(`written: bench/results/${name}`)
}

/**
 * Figures beyond the fifth are noise.
 * @param {unknown} value
 */
export function toJson(value) {
  return `${JSON.stringify(value, (_, item) => (typeof item === 'number' ? round(item) : item), 2)}\n`
}

/** @param {number} value */
function round(value) {
  return Number.isInteger(value) ? value : Number(value.toPrecision(5))
}
