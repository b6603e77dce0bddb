import { type ChildProcess, fork } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { join } from 'node:path'
import type { Test } from 'tap'
import { WebSocket } from 'ws'
import { withDeadline } from '../helpers/timeout.js'

/** What the process is asked, and what it answers. */
export interface Questions {
  /** Publishes a few numbers every few milliseconds, until `pause`. */
  load: undefined
  /** How many numbers were published; it answers when the engine has answered to all of them. */
  pause: number
  /** The highest number that was published. */
  published: number
  /** The highest number that the engine has taken. */
  taken: number
  lost: Losses
}

export interface Losses {
  /** The numbers that publish has rejected. */
  readonly rejected: readonly number[]
  /** Those that the event `lost` has told. */
  readonly lost: number
  /** What it has told in all, of members, too, and what the server has counted. */
  readonly told: number
  readonly total: number
}

export interface Settings {
  readonly engine: 'redis' | 'nats'
  readonly port: number
  readonly presence: { readonly interval: number; readonly timeout: number }
}

/** The process of server.js. */
export class ServerProcess extends EventEmitter {
  port = 0
  readonly states: string[] = []
  members: readonly string[] = []
  readonly unexpected: string[] = []
  readonly #child: ChildProcess

  /** @param workers processes of `node:cluster` behind one port, or 0. */
  constructor(t: Test, settings: Settings, workers = 0) {
    super()
    const env = { SERVER_SETTINGS: JSON.stringify(settings), SERVER_WORKERS: String(workers) }
    this.#child = fork(join(import.meta.dirname, 'server.js'), {
      env: { ...process.env, ...env },
      execArgv: []
    })
    this.#child.on('message', (message: unknown) => this.#receive(Object(message)))
    t.teardown(() => this.kill())
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  async started(): Promise<void> {
    await this.until(() => this.port > 0, 'start of the server')
  }

  async ask<Key extends keyof Questions>(question: Key): Promise<Questions[Key]> {
    const answer = once(this, question)
    this.#child.send(question)
    const [value] = await withDeadline(answer, 10_000, question)
    return value
  }

  /** Resolves when the last of the broker's states is this one. */
  async reached(state: 'up' | 'down'): Promise<void> {
    await this.until(() => this.states.at(-1) === state, state)
  }

  async until(predicate: () => boolean, what: string): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!predicate()) await once(this, 'news')
    }
    await withDeadline(wait(), 20_000, what)
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  #receive(message: Readonly<Record<string, unknown>>): void {
    if (typeof message.port === 'number') this.port = message.port
    if (typeof message.state === 'string') this.states.push(message.state)
    if (typeof message.unexpected === 'string') this.unexpected.push(message.unexpected)
    if (Array.isArray(message.members)) this.members = message.members.map(String).sort()
    this.emit('news')
    if (typeof message.question === 'string') this.emit(message.question, message.answer)
  }
}

/** A client that keeps the numbers of each publisher. */
export class Reader extends EventEmitter {
  /** The process that it is connected to. */
  server = 0
  readonly #numbers = new Map<number, number[]>()
  readonly #socket: WebSocket

  constructor(t: Test, port: number, name: string) {
    super()
    this.#socket = new WebSocket(`ws://127.0.0.1:${port}/?name=${name}`)
    this.#socket.on('error', () => {})
    this.#socket.on('message', data => this.#receive(String(data).split(' ')))
    t.teardown(() => this.#socket.terminate())
  }

  static async open(t: Test, port: number, name: string): Promise<Reader> {
    const reader = new Reader(t, port, name)
    await reader.#until(() => reader.server !== 0, 'subscription')
    return reader
  }

  /** In the order of their arrival. */
  numbersOf(publisher: number): readonly number[] {
    return this.#numbers.get(publisher) ?? []
  }

  /** Has the server publish. */
  publish(count: number): void {
    this.#socket.send(String(count))
  }

  /** Resolves when a number of a publisher has arrived, or a later one. */
  async reached(publisher: number, number: number): Promise<void> {
    const what = `${number} of ${publisher} at ${this.server}`
    await this.#until(() => (this.numbersOf(publisher).at(-1) ?? 0) >= number, what)
  }

  async #until(predicate: () => boolean, what: string): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!predicate()) await once(this, 'news')
    }
    await withDeadline(wait(), 20_000, what)
  }

  #receive([first, second]: readonly string[]): void {
    if (first === 'ready') {
      this.server = Number(second)
    } else {
      const numbers = this.#numbers.get(Number(first)) ?? []
      numbers.push(Number(second))
      this.#numbers.set(Number(first), numbers)
    }
    this.emit('news')
  }
}
