// Other versions of Node than the one that runs. npm has the official binaries, in a package for each platform; they are
// installed into .nodes/.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const NODES = join(import.meta.dirname, '..', '.nodes')

/**
 * Whether a text is a version of Node: 24, 24.1 or 24.1.0.
 * @param {string} text
 */
export function isNodeVersion(text) {
  return /^\d+(?:\.\d+){0,2}$/.test(text)
}

/**
 * Installs a version of Node where it is not installed yet.
 * @param {string} version
 * @returns {string | undefined} the folder of the binary; undefined when npm has failed and printed why.
 */
export function installNode(version) {
  const name = `node-${process.platform}-${process.arch}`
  const folder = join(NODES, version)
  const bin = join(folder, 'node_modules', name, 'bin')
  if (existsSync(join(bin, 'node'))) return bin
  mkdirSync(folder, { recursive: true })
  // A package of its own, so that npm does not change the one of this repository.
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
  const args = ['install', '--no-audit', '--no-fund', '--prefix', folder, `${name}@${version}`]
  return spawnSync('npm', args, { stdio: 'inherit' }).status === 0 ? bin : undefined
}
