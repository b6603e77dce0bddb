import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { command } from './command.js'

/** The folder of the project. */
export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** Builds the project in its current state. */
export async function build() {
  await command('npm', ['run', 'build'], { cwd: ROOT })
}

/**
 * Builds the project as it was at a git ref, in a temporary worktree that is removed afterwards.
 * @template T
 * @param {string} ref
 * @param {(folder: string, commit: string) => Promise<T>} use
 * @returns {Promise<T>}
 */
export async function withBuildOf(ref, use) {
  const commit = await findCommit(ref)
  const temporary = await mkdtemp(join(tmpdir(), 'fastify-upgrade-bench-'))
  const folder = join(temporary, 'worktree')
  try {
    await command('git', ['worktree', 'add', '--detach', folder, commit], { cwd: ROOT })
    await installDependencies(folder)
    await command('npm', ['run', 'build'], { cwd: folder })
    return await use(folder, commit)
  } finally {
    await removeWorktree(temporary, folder)
  }
}

/** @param {string} ref */
async function findCommit(ref) {
  try {
    return await command('git', ['rev-parse', '--verify', '--short', `${ref}^{commit}`], { cwd: ROOT })
  } catch {
    throw new Error(`«${ref}» is no commit of this repository`)
  }
}

/**
 * The dependencies that are installed here will do when both builds ask for the same ones.
 * @param {string} folder
 */
async function installDependencies(folder) {
  const [here, there] = await Promise.all(
    [ROOT, folder].map(at => readFile(join(at, 'package-lock.json'), 'utf8').catch(() => undefined))
  )
  if (here === there) await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'), 'junction')
  else await command('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'], { cwd: folder })
}

/**
 * Runs after an interruption too, when `command` starts nothing any more.
 * @param {string} temporary
 * @param {string} folder
 */
async function removeWorktree(temporary, folder) {
  spawnSync('git', ['worktree', 'remove', '--force', folder], { cwd: ROOT })
  await rm(temporary, { recursive: true, force: true, maxRetries: 3 })
}
