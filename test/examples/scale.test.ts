import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { delimiter, dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import t, { type Test } from 'tap'
import { type Client, open, withDeadline } from '../helpers/app.js'
import { REDIS, redisSkip, startRedis } from '../helpers/engine.js'
import { stopGently } from '../helpers/program.js'
import { root } from '../helpers/root.js'

const SERVER = join(root, 'dist', 'examples', 'scale', 'server.js')
const PROTOCOLS = { protocols: ['chat.v1'] }

/** Starts the two processes. @returns their ports. */
async function startScale(
  t: Test,
  redisUrl = ''
): Promise<{ child: ChildProcess; first: number; second: number }> {
  const PATH = [dirname(REDIS.path), process.env.PATH].join(delimiter)
  const env = { ...process.env, PATH, PORT: '0', HOST: '127.0.0.1', REDIS_URL: redisUrl }
  const child = spawn(process.execPath, [SERVER], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => stopGently(child))
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
  t.equal(processes.size, 2)
  const [first = 0, second = 0] = ports
  return { child, first, second }
}

t.test('a message is delivered from one process to the other', { skip: redisSkip }, async t => {
  const { child, first, second } = await startScale(t)
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

t.test('people who join with one name at the same time get different names', { skip: redisSkip }, async t => {
  const { first, second } = await startScale(t)
  const witness = await open(t, first, '/rooms/lobby?name=Ada', PROTOCOLS)
  /** Joins like the page: again under its own name, after a refusal that asks it to retry. */
  const enter = async (port: number, letter: string, wanted = 'Bob'): Promise<void> => {
    const protocols = ['chat.v1', `token.${letter.repeat(32)}`]
    const client = await open(t, port, `/rooms/lobby?name=${encodeURIComponent(wanted)}`, { protocols })
    const name = (await client.next()).replace('* welcome, ', '')
    client.socket.once('close', code => {
      if (code === 1013) void enter(port, letter, name)
    })
  }
  await Promise.all([enter(first, 'a'), enter(first, 'b'), enter(second, 'c'), enter(second, 'd')])
  const names = new Set(['Ada', 'Bob', 'Bob 2', 'Bob 3', 'Bob 4'])
  const settled = async (): Promise<void> => {
    for (;;) {
      const here = new Set((await witness.next()).split('here: ').at(-1)?.split(', '))
      if (here.size === names.size && [...names].every(name => here.has(name))) return
    }
  }
  await t.resolves(withDeadline(settled(), 20_000, 'four different names'))
})

t.test('a token is recognized in the other process, too', { skip: redisSkip }, async t => {
  const { first, second } = await startScale(t)
  const witness = await open(t, first, '/rooms/lobby?name=Ada', PROTOCOLS)
  t.equal(await witness.next(), '* welcome, Ada')
  t.equal(await witness.next(), '* Ada joined, here: Ada')
  const own = { protocols: ['chat.v1', `token.${'a'.repeat(32)}`] }
  const before = await open(t, first, '/rooms/lobby?name=Bob', own)
  t.equal(await before.next(), '* welcome, Bob')
  t.equal(await witness.next(), '* Bob joined, here: Ada, Bob')
  const after = await open(t, second, '/rooms/lobby?name=Bob', own)
  t.equal(await after.next(), '* welcome, Bob', 'while the connection to the other process is open')
  after.socket.send('hello')
  t.equal(await witness.next(), 'Bob: hello')
  before.socket.terminate()
  after.socket.terminate()
  t.equal(await witness.next(), '* Bob left, here: Ada', 'once')
  const stranger = await open(t, first, '/rooms/lobby?name=Bob', PROTOCOLS)
  t.equal(await stranger.next(), '* welcome, Bob 2', 'its name is reserved')
})

t.test(
  'a client that reconnects after a restart of the processes has missed nothing',
  { skip: redisSkip },
  async t => {
    const redis = await startRedis(t)
    const url = `redis://127.0.0.1:${redis.port}`
    const json = { protocols: ['chat.v2'] }
    const next = async (client: Client) => JSON.parse(await client.next())
    const before = await startScale(t, url)
    const bob = await open(t, before.first, '/rooms/lobby?name=Bob', json)
    const { type, offset, epoch } = await next(bob)
    t.strictSame([type, offset], ['welcome', 0])
    const ada = await open(t, before.second, '/rooms/lobby?name=Ada', json)
    const say = async (speaker: Client, text: string): Promise<void> => {
      speaker.socket.send(JSON.stringify({ type: 'message', text }))
      while ((await next(speaker)).text !== text);
    }
    await say(ada, 'heard')
    let last = await next(bob)
    while (last.text !== 'heard') last = await next(bob)
    t.match(last, { offset: 1, epoch })
    bob.socket.terminate()
    await say(ada, 'missed before the restart')
    const exited = once(before.child, 'exit')
    before.child.kill('SIGTERM')
    await withDeadline(exited, 20_000, 'exit')

    const after = await startScale(t, url)
    const eve = await open(t, after.first, '/rooms/lobby?name=Eve', json)
    await say(eve, 'missed after the restart')
    const again = await open(t, after.second, `/rooms/lobby?name=Bob&offset=1&epoch=${epoch}`, json)
    t.match(await next(again), { name: 'Ada', text: 'missed before the restart', offset: 2, epoch })
    t.match(await next(again), { name: 'Eve', text: 'missed after the restart', offset: 3, epoch })
    t.match(await next(again), { type: 'welcome', recovered: true, offset: 3, epoch })
  }
)

t.test(
  'a message that the engine does not store closes the connection of its client',
  { skip: redisSkip },
  async t => {
    const redis = await startRedis(t)
    const { first } = await startScale(t, `redis://127.0.0.1:${redis.port}`)
    const ada = await open(t, first, '/rooms/lobby?name=Ada', { protocols: ['chat.v2'] })
    t.match(JSON.parse(await ada.next()), { type: 'welcome' })
    await redis.kill()
    ada.socket.send('{"type":"message","text":"hello"}')
    t.match(await ada.closed(), /^1011/)
  }
)
