// The chat on two processes, which share the rooms and their members. Run it with `npm run start:scale`. It needs a
// redis-server, or the address of one in REDIS_URL.
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { redisBroker } from 'fastify-upgrade/redis'
import { Redis } from 'ioredis'
import { buildChat } from '../chat/server.js'

const { PORT = '8002', HOST = 'localhost', REDIS_URL } = process.env
const SERVERS = 2

/** One of the processes. */
async function serve(redisUrl: string) {
  const redis = new Redis(redisUrl)
  const app = await buildChat({ logger: { level: 'warn' } }, { broker: redisBroker(redis) })
  redis.on('error', error => app.log.warn(error.message))
  app.websocketServer.on('broker', event => app.log.info(event))
  app.addHook('onClose', async () => redis.disconnect())
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => app.close())
  process.once('disconnect', () => app.close())
  app.addHook('onClose', async () => process.disconnect?.())
  const { port } = new URL(await app.listen({ port: Number(PORT), host: HOST }))
  console.log(`Chat on http://${HOST}:${port} (process ${process.pid}, Ctrl-C stops it)`)
}

/** A Redis that listens on a socket of its own. */
async function startRedis(): Promise<{ url: string; stop: () => Promise<void> }> {
  const folder = await mkdtemp(join(tmpdir(), 'chat-'))
  const url = join(folder, 'redis.sock')
  const options = ['--port', '0', '--unixsocket', url, '--save', '', '--dir', folder]
  // Of its own group, so that Ctrl-C stops it last.
  const redis = spawn('redis-server', options, { stdio: 'ignore', detached: true })
  redis.once('error', () => {
    console.error('redis-server is not installed: install it, or set REDIS_URL')
    process.exit(1)
  })
  const stop = async () => {
    redis.kill()
    await rm(folder, { recursive: true, force: true })
  }
  return { url, stop }
}

/** Starts Redis and the processes. */
async function main() {
  const redis = REDIS_URL ? { url: REDIS_URL, stop: async () => {} } : await startRedis()
  const servers: ChildProcess[] = []
  for (let n = 0; n < SERVERS; n++) {
    const port = PORT === '0' ? PORT : String(Number(PORT) + n)
    const env = { ...process.env, PORT: port, SCALE_REDIS: redis.url }
    servers.push(fork(fileURLToPath(import.meta.url), { env }))
  }
  let running = SERVERS
  for (const server of servers) {
    server.once('exit', () => {
      if (--running === 0) void redis.stop()
    })
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      for (const server of servers) server.kill(signal)
    })
  }
}

const { SCALE_REDIS } = process.env
if (SCALE_REDIS === undefined) await main()
else await serve(SCALE_REDIS)
