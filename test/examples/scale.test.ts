import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { delimiter, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { open, withDeadline } from '../helpers/app.js'
import { REDIS, redisSkip } from '../helpers/engine.js'

const SERVER = join(import.meta.dirname, '..', '..', 'dist', 'examples', 'scale', 'server.js')
const PROTOCOLS = { protocols: ['chat.v1'] }

t.test('a message crosses from one process to the other', { skip: redisSkip }, async t => {
  const PATH = [dirname(REDIS.path), process.env.PATH].join(delimiter)
  const env = { ...process.env, PATH, PORT: '0', HOST: '127.0.0.1', REDIS_URL: '' }
  const child = spawn(process.execPath, [SERVER], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGTERM'))
  const ports: number[] = []
  const processes = new Set<string>()
  const start = async (): Promise<void> => {
    for await (const line of createInterface(child.stdout)) {
      const [, port, pid = ''] = /^Chat on http:\/\/127\.0\.0\.1:(\d+) \(process (\d+),/.exec(line) ?? []
      ports.push(Number(port))
      processes.add(pid)
      if (ports.length === 2) break
    }
  }
  await withDeadline(start(), 20_000, 'start')
  const [first = 0, second = 0] = ports
  t.equal(processes.size, 2)
  const ada = await open(t, first, '/rooms/lobby?name=Ada', PROTOCOLS)
  t.equal(await ada.next(), '* welcome, Ada')
  t.equal(await ada.next(), '* Ada joined, here: Ada')
  const bob = await open(t, second, '/rooms/lobby?name=Bob', PROTOCOLS)
  t.equal(await bob.next(), '* welcome, Bob')
  t.equal(await bob.next(), '* Bob joined, here: Ada, Bob')
  t.equal(await ada.next(), '* Bob joined, here: Ada, Bob')
  ada.socket.send('hello from the other process')
  t.equal(await bob.next(), 'Ada: hello from the other process')
  bob.socket.terminate()
  t.equal(await ada.next(), 'Ada: hello from the other process')
  t.equal(await ada.next(), '* Bob left, here: Ada')
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  t.equal(await ada.closed(), '1001 the server is stopping')
  t.strictSame(await withDeadline(exited, 10_000, 'exit'), [0, null])
})
