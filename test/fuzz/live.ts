import { type ChildProcess, fork } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import { WebSocket } from 'ws'
import { ms, withDeadline } from '../helpers/timeout.js'
import { randomNumbers } from '../protocol/wire.js'
import type { Attack } from './attack.js'
import { faultOf } from './output.js'
import type { State } from './server.js'

/** The process of server.ts. */
export class ServerProcess extends EventEmitter {
  port = 0
  /** Unexpected events in that process. */
  readonly unexpected: string[] = []
  readonly #child: ChildProcess
  #exit: string | undefined

  constructor() {
    super()
    this.#child = fork(join(import.meta.dirname, 'server.js'), {
      execArgv: [...process.execArgv, '--expose-gc'],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc']
    })
    this.#child.on('message', (message: unknown) => this.#receive(Object(message)))
    this.#child.on('exit', (code, signal) => {
      this.#exit = String(signal ?? code)
      this.emit('exit')
    })
  }

  /** Undefined while the process is running. */
  get exit(): string | undefined {
    return this.#exit
  }

  async started(): Promise<void> {
    await withDeadline(once(this, 'port'), 20_000, 'start of the server')
  }

  async state(): Promise<State> {
    if (this.#exit !== undefined) throw new Error(`the server has ended with ${this.#exit}`)
    const answer = once(this, 'state')
    this.#child.send('state')
    const [state] = await withDeadline(answer, 20_000, 'state of the server')
    return state
  }

  /** Closes the application, so that the process ends by itself. */
  async end(): Promise<string> {
    if (this.#exit === undefined) {
      const exit = once(this, 'exit')
      this.#child.send('end')
      await withDeadline(exit, 20_000, 'end of the server')
    }
    return this.#exit ?? ''
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  #receive(message: Readonly<Record<string, unknown>>): void {
    if (typeof message.port === 'number') {
      this.port = message.port
      this.emit('port')
    }
    if (typeof message.unexpected === 'string') {
      if (this.unexpected.length < 5) this.unexpected.push(message.unexpected.slice(0, 2000))
      this.emit('unexpected')
    }
    if (message.state !== undefined) this.emit('state', message.state)
  }
}

/** The maximum number of unanswered messages of a neighbour. */
const WINDOW = 3

/** A well-behaved client. It sends numbered messages and expects each back, in order. */
export class Neighbour {
  readonly path: string
  readonly socket: WebSocket
  /** The first fault, and the longest duration of an echo. */
  readonly faults: string[] = []
  echoes = 0
  slowest = 0
  #isDone = false
  readonly #waiting: { readonly message: string; readonly since: number }[] = []
  readonly #random: () => number

  constructor(port: number, path: string, seed: number) {
    this.path = path
    this.#random = randomNumbers(seed)
    this.socket = new WebSocket(`ws://127.0.0.1:${port}${path}?good`)
    this.socket.on('message', data => this.#receive(String(data)))
    this.socket.on('error', error => this.faults.push(`error ${error.message}`))
    this.socket.on('close', code => {
      if (!this.#isDone) this.faults.push(`closed with ${code}`)
    })
  }

  /** Sends messages until it is stopped. */
  async talk(): Promise<void> {
    await withDeadline(once(this.socket, 'open'), 10_000, `open ${this.path}`)
    let number = 0
    while (!this.#isDone && this.socket.readyState === WebSocket.OPEN) {
      if (this.#waiting.length < WINDOW) {
        const size = Math.floor(this.#random() ** 4 * 30_000)
        const message = `${number++} ${'€x'.repeat(size / 4)}`
        this.#waiting.push({ message, since: performance.now() })
        this.socket.send(message)
      }
      await delay(this.#random() * 8)
    }
  }

  /** Waits for the last echoes. */
  async stop(): Promise<void> {
    const wait = async (): Promise<void> => {
      while (this.#waiting.length > 0 && this.socket.readyState === WebSocket.OPEN)
        await once(this.socket, 'message')
    }
    await withDeadline(wait(), 5_000, `echo on ${this.path}`).catch(error => this.faults.push(String(error)))
    this.#isDone = true
  }

  #receive(data: string): void {
    const sent = this.#waiting.shift()
    if (sent === undefined || sent.message !== data) {
      this.faults.push(`got ${data.slice(0, 20)} for ${sent?.message.slice(0, 20)}`)
      return
    }
    this.echoes++
    this.slowest = Math.max(this.slowest, performance.now() - sent.since)
  }
}

/** The time that an attacker waits for the last data of the server. */
const PATIENCE = 60

/** The result of an attack. */
export interface Outcome {
  /** Errors in the bytes that the server sent. */
  readonly fault: string | undefined
  /** The status of its first response. */
  readonly status: string
  readonly output: Buffer
}

/**
 * Runs an attack.
 * @param isAnswered whether all expected data has arrived; without it, the attacker waits only briefly.
 */
export async function attack(
  port: number,
  { pieces, delay: milliseconds, ending }: Attack,
  isAnswered?: (output: Buffer) => boolean
): Promise<Outcome> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
  const chunks: Buffer[] = []
  socket.on('error', () => {})
  const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
  await Promise.race([once(socket, 'connect').catch(() => {}), closed])
  if (ending === 'deaf') socket.pause()
  else socket.on('data', chunk => chunks.push(chunk))
  for (const piece of pieces) {
    if (socket.destroyed) break
    socket.write(piece)
    await (milliseconds === 0 ? turn() : delay(milliseconds))
  }
  while (isAnswered?.(Buffer.concat(chunks)) === false) {
    await withDeadline(Promise.race([once(socket, 'data'), closed]), 10_000, 'an answer')
    if (socket.destroyed) break
  }
  await leave(socket, ending, closed)
  const output = Buffer.concat(chunks)
  const status =
    ending === 'deaf' ? ending : /^HTTP\/1\.1 (\d{3})/.exec(output.toString('latin1', 0, 20))?.[1]
  return { fault: faultOf(output), status: status ?? 'none', output }
}

async function leave(socket: Socket, ending: Attack['ending'], closed: Promise<void>): Promise<void> {
  const ended = new Promise<void>(resolve => {
    socket.once(ending === 'reset after an answer' ? 'data' : 'end', () => resolve())
  })
  if (ending === 'half-close') socket.end()
  if (ending !== 'reset' && ending !== 'destroy') await Promise.race([closed, ended, delay(ms(PATIENCE))])
  if (ending === 'wait' || ending === 'half-close' || ending === 'destroy') socket.destroy()
  else socket.resetAndDestroy()
  await closed
}
