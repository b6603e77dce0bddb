import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ROOT } from './harness/build.js'
import { command } from './harness/command.js'

/**
 * A server to measure.
 * @typedef {object} Peer
 * @property {string} name
 * @property {string} version
 * @property {string[]} command how to start it; it prints `listening PORT`.
 * @property {Record<string, string>} env
 * @property {readonly string[]} kinds the kinds of workload it can take.
 * @property {boolean} deflate whether it can take compressed ones.
 * @property {boolean} raw whether it echoes bytes and knows nothing of WebSocket.
 */

/** The server with which all others are compared. */
export const BASE = 'ws'

export const PROJECT = 'fastify-upgrade'

const ALL_KINDS = ['echo', 'fan', 'handshake', 'idle']

/**
 * A build of this project.
 * @param {string} name
 * @param {string} folder
 * @param {string} version
 * @returns {Peer}
 */
export function projectPeer(name, folder, version) {
  return { ...nodePeer(name, 'project.js', version), env: { BUILD: folder } }
}

/** @returns {Promise<Peer>} */
export async function findBase() {
  return nodePeer(BASE, 'ws.js', await versionOf('ws'))
}

/** @returns {Promise<Peer[]>} */
export async function findPeers() {
  const { node } = process.versions
  return [
    await findBase(),
    nodePeer('@fastify/websocket', 'fastify-websocket.js', await versionOf('@fastify/websocket')),
    { ...nodePeer('node:net', 'net.js', node), kinds: ['echo'], deflate: false, raw: true },
    { ...nodePeer('node:http', 'http.js', node), kinds: ['handshake', 'idle'], deflate: false },
    ...(await findBun())
  ]
}

/**
 * Whether a server can take a workload at all.
 * @param {Peer} peer
 * @param {import('./workloads.js').Workload} workload
 */
export function takes(peer, workload) {
  return peer.kinds.includes(workload.kind) && (peer.deflate || !workload.deflate)
}

/**
 * The installed version of a package.
 * @param {string} name
 * @returns {Promise<string>}
 */
export async function versionOf(name) {
  const text = await readFile(join(ROOT, 'node_modules', name, 'package.json'), 'utf8')
  return JSON.parse(text).version
}

/**
 * @param {string} name
 * @param {string} file
 * @param {string} version
 * @returns {Peer}
 */
function nodePeer(name, file, version) {
  return {
    name,
    version,
    command: [process.execPath, server(file)],
    env: {},
    kinds: ALL_KINDS,
    deflate: true,
    raw: false
  }
}

/**
 * Bun, when it is there; it is never installed for this.
 * @returns {Promise<Peer[]>}
 */
async function findBun() {
  const folders = (process.env.PATH ?? '').split(delimiter)
  const program = process.env.BUN_PATH ?? folders.map(folder => join(folder, 'bun')).find(existsSync)
  if (program === undefined) return []
  const version = await command(program, ['--version']).catch(error => {
    throw new Error(`BUN_PATH or PATH names a Bun that does not run: ${error.message}`)
  })
  return [{ ...nodePeer('Bun', 'bun.js', version), command: [program, server('bun.js')] }]
}

/** @param {string} file */
function server(file) {
  return fileURLToPath(new URL(`servers/${file}`, import.meta.url))
}
