import t, { type Test } from 'tap'
import { ms, withDeadline } from '../helpers/timeout.js'
import { type Attack, attackOf, plainAttacks, readAttack, writeAttack } from './attack.js'
import { BODIES, CHAT, CORPUS, ws } from './corpus.js'
import { attack, Neighbour, ServerProcess } from './live.js'
import { framesIn } from './output.js'
import { fixtures, isWanted } from './run.js'
import type { State } from './server.js'

const { FUZZ_SEED, FUZZ_LIVE_SECONDS, FUZZ_ATTACK } = process.env
const seed = FUZZ_SEED ? Number(FUZZ_SEED) : Math.floor(Math.random() * 2 ** 31)
const seconds = Number(FUZZ_LIVE_SECONDS || 2)

/** The number of concurrent attacks. */
const LANES = 12
/** The number of attacks before the memory is measured for the first time, so that it is stable by then. */
const WARM_UP = 300
/** The maximum growth of the heap in bytes, after any number of attacks. */
const GROWTH = 6 * 2 ** 20
/** The routes that good clients use. */
const PATHS = ['/echo', '/iterate', '/stream', '/deflate', '/takeover', '/hooks', '/late', '/echo']

/** The numbers of running attacks, and of recent ones: one of them is the cause of a failure. */
const recent: number[] = []
/** The number of responses by status. */
const statuses = new Map<string, number>()

async function runAttacks(
  port: number,
  attacks: Iterator<readonly [number, Attack]>,
  faults: string[]
): Promise<number> {
  let count = 0
  const lane = async (): Promise<void> => {
    for (let next = attacks.next(); !next.done && faults.length < 5; next = attacks.next()) {
      const [number, one] = next.value
      recent.push(number)
      if (recent.length > 2 * LANES) recent.shift()
      const { fault, status } = await attack(port, one)
      statuses.set(status, (statuses.get(status) ?? 0) + 1)
      count++
      if (fault !== undefined) faults.push(`attack ${number}: ${fault}`)
    }
  }
  await Promise.all(Array.from({ length: LANES }, lane))
  return count
}

function* numbered(from: number, isOver: (number: number) => boolean): Generator<readonly [number, Attack]> {
  for (let number = from; !isOver(number); number++) yield [number, attackOf(seed, number)]
}

/** Unmodified conversations get the expected responses. */
async function checkGood(t: Test, port: number): Promise<void> {
  const closed = ['/echo', '/iterate', '/select', '/deflate', '/takeover', '/late', '/hooks']
  // Piped data may arrive after the answer to a Close, when it can no longer be sent.
  const open = ['/stream', '/pipe']
  for (const path of [...closed, ...open]) {
    const isClosed = closed.includes(path)
    const messages = (output: Buffer) => framesIn(output).filter(({ opcode }) => opcode < 8).length
    const close = (output: Buffer) => framesIn(output).find(({ opcode }) => opcode === 8)
    const isAnswered = (output: Buffer): boolean =>
      isClosed ? close(output) !== undefined : messages(output) >= 3
    for (const plain of plainAttacks(ws(path, isClosed ? CHAT : CHAT.slice(0, -1)))) {
      const { output } = await attack(port, { ...plain, ending: 'wait' }, isAnswered)
      t.equal(messages(output), 3, `messages come back on ${path}`)
      if (isClosed) t.equal(close(output)?.payload.toString('latin1'), '\x03\xe8bye', 'and the Close')
    }
  }
}

/** When only the good clients are connected. */
async function settle(server: ServerProcess, good: number): Promise<State> {
  const wait = async (): Promise<State> => {
    for (;;) {
      const state = await server.state()
      if (state.clients === good && state.connections === good) return state
    }
  }
  return withDeadline(wait(), 10_000, 'the end of all attackers').catch(() => server.state())
}

t.test(
  'a server under attack serves its good clients and keeps no memory of attacks',
  { skip: !isWanted('live') },
  async t => {
    const server = new ServerProcess()
    t.teardown(() => server.kill())
    await server.started()
    const { port } = server
    server.once('unexpected', () => t.comment(`unexpected, after one of the attacks ${recent}`))
    const faults: string[] = []
    await checkGood(t, port)

    await runAttacks(
      port,
      Object.entries(BODIES.flatMap(plainAttacks))
        .map(([i, one]) => [Number(i), one] as const)
        .values(),
      faults
    )
    t.equal((await server.state()).smuggled, 0, 'no request hidden in a body has run')

    const neighbours = PATHS.map((path, i) => new Neighbour(port, path, i))
    const talks = neighbours.map(one => one.talk())
    const kept = [...fixtures('live').values()].map(readAttack)
    const plain = CORPUS.flatMap(plainAttacks)
    await runAttacks(port, [...kept, ...plain].map(one => [-1, one] as const).values(), faults)
    let count = 0
    if (FUZZ_ATTACK) {
      const one = attackOf(seed, Number(FUZZ_ATTACK))
      t.comment(writeAttack(one))
      count += await runAttacks(
        port,
        Array(50)
          .fill([Number(FUZZ_ATTACK), one])
          .values(),
        faults
      )
    } else
      count += await runAttacks(
        port,
        numbered(0, number => number >= WARM_UP),
        faults
      )
    const before = await settle(server, PATHS.length)

    if (!FUZZ_ATTACK) {
      const end = performance.now() + seconds * 1000
      count += await runAttacks(
        port,
        numbered(WARM_UP, () => performance.now() > end),
        faults
      )
    }
    const after = await settle(server, PATHS.length)
    await Promise.all(neighbours.map(one => one.stop()))
    await Promise.all(talks)

    const echoes = neighbours.reduce((sum, one) => sum + one.echoes, 0)
    const slowest = Math.max(...neighbours.map(one => one.slowest))
    t.comment(`fuzz: live: ${count} runs, seed ${seed}`)
    t.comment(
      `answers ${[...statuses]
        .sort()
        .map(([status, n]) => `${status}: ${n}`)
        .join(', ')}`
    )
    t.comment(`${echoes} echoes, the slowest after ${Math.round(slowest)} ms`)
    t.comment(
      `heap ${before.heap} to ${after.heap}, buffers ${before.buffers} to ${after.buffers}, resident ${before.resident} to ${after.resident}`
    )
    if (server.exit !== undefined) t.comment(`ended, after one of the attacks ${recent}`)
    t.strictSame(faults, [], 'all output of the server is HTTP and WebSocket')
    t.strictSame(server.unexpected, [], 'no uncaught exception, and no error except those of the application')
    t.equal(server.exit, undefined, 'the process is running')
    t.strictSame(
      neighbours.flatMap(one => one.faults),
      [],
      'good clients lost nothing'
    )
    t.ok(
      neighbours.every(one => one.echoes > 10),
      'all good clients sent messages'
    )
    t.ok(slowest < ms(5000), 'the good clients were not delayed')
    const { clients, goodClients, connections } = after
    t.strictSame(
      [clients, goodClients, connections],
      Array(3).fill(PATHS.length),
      'only the good clients are connected'
    )
    t.ok(after.heap - before.heap < GROWTH, 'the heap does not grow')
    t.ok(after.buffers - before.buffers < GROWTH, 'the buffers do not grow')
    t.equal(await server.end(), '0', 'the process ends by itself')
    t.strictSame(
      neighbours.flatMap(one => one.faults),
      []
    )
  }
)
