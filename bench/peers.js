import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ROOT } from './harness/build.js'
import { command } from './harness/command.js'
import { CURRENT } from './harness/nodes.js'

/** @typedef {import('./harness/nodes.js').Node} Node */

/**
 * A server to measure.
 * @typedef {object} Peer
 * @property {string} name
 * @property {string} version
 * @property {string} [node] the version of Node that runs it; undefined for other runtimes.
 * @property {string[]} command how to start it; it prints `listening PORT`.
 * @property {Record<string, string>} env
 * @property {readonly string[]} kinds the kinds of workload it can take.
 * @property {boolean} deflate whether it can take compressed ones.
 * @property {'tls' | 'http2'} [transport] plain TCP by default.
 * @property {boolean} raw whether it echoes bytes and knows nothing of WebSocket.
 */

/** The server with which all others are compared, on the same Node. */
export const BASE = 'ws'

/**
 * For each kind of workload, the server on Node that does the least.
 * @type {Readonly<Record<import('./workloads.js').Workload['kind'], string>>}
 */
export const CEILINGS = {
  echo: 'node:net',
  fan: 'socket.write',
  handshake: 'node:http',
  cold: 'node:http',
  idle: 'node:http'
}

export const PROJECT = 'fastify-upgrade'

const ALL_KINDS = ['echo', 'fan', 'handshake', 'cold', 'idle']

/**
 * A build of this project.
 * @param {string} name
 * @param {string} folder
 * @param {string} version
 * @param {Node} node
 * @returns {Peer}
 */
export function projectPeer(name, folder, version, node = CURRENT) {
  return { ...nodePeer(name, 'project.js', version, node), env: { BUILD: folder } }
}

/**
 * @param {Node} node
 * @returns {Promise<Peer>}
 */
export async function findBase(node = CURRENT) {
  return nodePeer(BASE, 'ws.js', await versionOf('ws'), node)
}

/**
 * The other servers that run on Node.
 * @param {Node} node
 * @returns {Promise<Peer[]>}
 */
export async function findPeers(node) {
  const [version, plain] = [await versionOf('@fastify/websocket'), node.version.slice(1)]
  return [
    await findBase(node),
    nodePeer('@fastify/websocket', 'fastify-websocket.js', version, node),
    { ...nodePeer('node:net', 'net.js', plain, node), kinds: ['echo'], deflate: false, raw: true },
    {
      ...nodePeer('node:http', 'http.js', plain, node),
      kinds: ['handshake', 'cold', 'idle'],
      deflate: false
    },
    { ...nodePeer('socket.write', 'write.js', plain, node), kinds: ['fan'], deflate: false }
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
 * @param {Node} node
 * @returns {Peer}
 */
function nodePeer(name, file, version, node) {
  return {
    name,
    version,
    node: node.version,
    command: [node.program, server(file)],
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
export async function findBun() {
  const folders = (process.env.PATH ?? '').split(delimiter)
  const program = process.env.BUN_PATH ?? folders.map(folder => join(folder, 'bun')).find(existsSync)
  if (program === undefined) return []
  const version = await command(program, ['--version']).catch(error => {
    throw new Error(`BUN_PATH or PATH names a Bun that does not run: ${error.message}`)
  })
  const { node: _, ...peer } = nodePeer('Bun', 'bun.js', version, CURRENT)
  return [{ ...peer, command: [program, server('bun.js')] }]
}

/** @param {string} file */
function server(file) {
  return fileURLToPath(new URL(`servers/${file}`, import.meta.url))
}
