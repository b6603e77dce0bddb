import { type ChildProcess, fork } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import { join } from 'node:path'
import type { Test } from 'tap'
import { WebSocket } from 'ws'
import type { Reached } from '../../lib/index.js'
import { withDeadline } from '../helpers/timeout.js'

/** The requests that the process accepts, and the types of its replies. */
export interface Requests {
  /** Publishes a few numbers every few milliseconds, until `pause`. */
  load: undefined
  /** The highest number that was published. The process replies when the engine has confirmed or rejected all. */
  pause: number
  /** The highest number that was published. */
  published: number
  /** The highest number that the engine has accepted. */
  accepted: number
  lost: Losses
  /** The connections of all processes, which have one user. */
  reached: Reached
}

export interface Losses {
  /** The numbers that publish has rejected. */
  readonly rejected: readonly number[]
  /** The number of `lost` events for the topic of the numbers. */
  readonly lost: number
  /** The number of `lost` events for all topics. */
  readonly reported: number
  /** The server's own count of lost messages. */
  readonly total: number
}

export interface Settings {
  readonly engine: 'redis' | 'nats'
  readonly port: number
  readonly presence: { readonly interval: number; readonly timeout: number }
}

/** A process that runs server.js. */
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

  async request<Key extends keyof Requests>(name: Key): Promise<Requests[Key]> {
    const reply = once(this, name)
    this.#child.send(name)
    const [value] = await withDeadline(reply, 10_000, name)
    return value
  }

  /** Resolves when this is the current state of the broker. */
  async reached(state: 'up' | 'down'): Promise<void> {
    await this.until(() => this.states.at(-1) === state, state)
  }

  async until(predicate: () => boolean, what: string): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!predicate()) await once(this, 'change')
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
    this.emit('change')
    if (typeof message.request === 'string') this.emit(message.request, message.reply)
  }
}

/** A client that records the numbers of each publisher. */
export class Reader extends EventEmitter {
  /** The id of the process that it is connected to. */
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

  /** The numbers of a publisher in the order of arrival. */
  numbersOf(publisher: number): readonly number[] {
    return this.#numbers.get(publisher) ?? []
  }

  /** Makes the server publish so many numbers. */
  publish(count: number): void {
    this.#socket.send(String(count))
  }

  /** Resolves when this number of a publisher, or a later one, has arrived. */
  async reached(publisher: number, number: number): Promise<void> {
    const what = `${number} of ${publisher} at ${this.server}`
    await this.#until(() => (this.numbersOf(publisher).at(-1) ?? 0) >= number, what)
  }

  async #until(predicate: () => boolean, what: string): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!predicate()) await once(this, 'change')
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
    this.emit('change')
  }
}
