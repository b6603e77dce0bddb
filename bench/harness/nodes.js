import { join } from 'node:path'
import { installNode } from '../../scripts/node-version.mjs'
import { command } from './command.js'

/**
 * A version of Node that runs servers, as `v24.1.0`, and the path of its program.
 * @typedef {{ version: string, program: string }} Node
 */

/** @type {Node} */
export const CURRENT = { version: process.version, program: process.execPath }

/**
 * The Nodes of `--node`, which npm installs where they are missing; without the option, the Node that runs this.
 * @param {string[]} versions
 * @returns {Promise<Node[]>}
 */
export async function findNodes(versions) {
  if (versions.length === 0) return [CURRENT]
  /** @type {Map<string, Node>} */
  const nodes = new Map()
  for (const wanted of versions) {
    const bin = installNode(wanted)
    if (bin === undefined) throw new Error(`npm could not install Node ${wanted}`)
    const program = join(bin, 'node')
    const version = await command(program, ['--version'])
    // 24 and 24.1.0 may name the same one.
    if (!nodes.has(version)) nodes.set(version, { version, program })
  }
  return [...nodes.values()]
}
