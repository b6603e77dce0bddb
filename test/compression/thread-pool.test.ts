import t from 'tap'
import { runJob } from '../../lib/compression/thread-pool.js'
import { tick } from '../socket/harness.js'

/** Jobs that end when the test ends them. */
class Jobs {
  readonly started: number[] = []
  readonly settled: string[] = []
  readonly #ends: ((error?: Error) => void)[] = []

  add(...numbers: number[]): this {
    for (const i of numbers) {
      const job = (): Promise<number> => {
        this.started.push(i)
        return new Promise((resolve, reject) => {
          this.#ends[i] = error => (error ? reject(error) : resolve(i))
        })
      }
      runJob(job).then(
        result => this.settled.push(`${result}`),
        error => this.settled.push(`${i} ${error.message}`)
      )
    }
    return this
  }

  async end(i: number, error?: Error): Promise<void> {
    this.#ends[i](error)
    await tick()
  }

  async endAll(): Promise<void> {
    for (let i = 0; i < this.#ends.length; i++) await this.end(i)
  }
}

const numbers = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)

t.test('eight jobs run at a time, and the others start in the order of their calls', async t => {
  const jobs = new Jobs().add(...numbers(0, 12))
  await tick()
  t.strictSame(jobs.started, numbers(0, 8))
  await jobs.end(5)
  t.strictSame(jobs.started, [...numbers(0, 8), 8])
  t.strictSame(jobs.settled, ['5'], 'settled with its result')
  jobs.add(12)
  await tick()
  t.equal(jobs.started.length, 9, 'a new job is queued behind the pending ones')
  await jobs.end(0)
  await jobs.end(8)
  await jobs.end(1)
  await jobs.end(2)
  t.strictSame(jobs.started, numbers(0, 13))
  await jobs.endAll()
  t.strictSame(
    jobs.settled.map(Number).sort((a, b) => a - b),
    numbers(0, 13)
  )
})

t.test('a job that fails rejects and frees its slot', async t => {
  const jobs = new Jobs().add(...numbers(0, 9))
  await tick()
  await jobs.end(3, new Error('broken'))
  t.strictSame(jobs.settled, ['3 broken'])
  t.strictSame(jobs.started, numbers(0, 9))
  await jobs.endAll()
  const more = new Jobs().add(...numbers(0, 9))
  await tick()
  t.equal(more.started.length, 8, 'no slot was lost')
  await more.endAll()
  t.equal(more.settled.length, 9)
})

t.test('a job that throws synchronously frees its slot, too', async t => {
  const fail = async (): Promise<never> =>
    runJob(() => {
      throw new Error('thrown')
    })
  for (let i = 0; i < 9; i++) await t.rejects(fail(), { message: 'thrown' })
  t.equal(await runJob(async () => 'works'), 'works')
})

t.test('all freed slots are used again', async t => {
  for (let round = 0; round < 3; round++) {
    const jobs = new Jobs().add(...numbers(0, 20))
    await tick()
    t.equal(jobs.started.length, 8)
    await jobs.endAll()
    t.equal(jobs.settled.length, 20)
  }
})
