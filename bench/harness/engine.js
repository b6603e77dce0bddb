import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

/** @type {Record<string, { file: string, args: (port: string, folder: string) => string[], ready: RegExp }>} */
const ENGINES = {
  redis: {
    file: 'redis-server',
    args: (port, folder) => ['--port', port, '--bind', '127.0.0.1', '--dir', folder, '--save', ''],
    ready: /Ready to accept connections/
  },
  nats: {
    file: 'nats-server',
    args: (port, folder) => ['--addr', '127.0.0.1', '--port', port, '-js', '-sd', folder],
    ready: /Server is ready/
  }
}

export const ENGINE_NAMES = Object.keys(ENGINES)

/**
 * Starts an engine that processes exchange messages through.
 * @param {string} name
 * @returns {Promise<{ port: number, pid: number, stop: () => Promise<void> }>}
 */
export async function startEngine(name) {
  const { file, args, ready } = ENGINES[name]
  const folder = await mkdtemp(join(tmpdir(), 'engine-'))
  const port = await freePort()
  const child = spawn(file, args(String(port), folder), { stdio: ['ignore', 'pipe', 'pipe'] })
  await new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', code => reject(new Error(`${file} ended with ${code}`)))
    for (const input of [child.stdout, child.stderr]) {
      createInterface({ input }).on('line', line => ready.test(line) && resolve(undefined))
    }
  })
  const stop = async () => {
    child.removeAllListeners('exit').kill('SIGKILL')
    await rm(folder, { recursive: true, force: true })
  }
  return { port, pid: child.pid ?? 0, stop }
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0))
    })
  })
}
