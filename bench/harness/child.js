import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { interrupted } from './interrupt.js'

/**
 * A process that is asked one thing at a time over IPC. It ends itself when its parent goes away.
 * @typedef {{ core?: number | undefined, env?: Record<string, string> }} ChildOptions
 */
export class Child {
  #name
  #process
  #gone
  #stderr = ''

  /**
   * @param {string} name for messages.
   * @param {string[]} command
   * @param {ChildOptions} options `core` pins it.
   */
  constructor(name, command, { core, env } = {}) {
    this.#name = name
    const [file, ...args] = core === undefined ? command : ['taskset', '-c', String(core), ...command]
    const child = spawn(file, args, {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      signal: interrupted,
      killSignal: 'SIGKILL'
    })
    this.#process = child
    this.#gone = new Promise(resolve => {
      child.once('close', resolve)
      child.once('error', error => {
        this.#stderr ||= `Error: ${error.message}`
        if (child.pid === undefined) resolve(undefined)
      })
    })
    child.stderr?.setEncoding('utf8').on('data', text => {
      this.#stderr = (this.#stderr + text).slice(-8192)
    })
  }

  get pid() {
    return this.#process.pid ?? 0
  }

  /**
   * The next line on its standard output.
   * @param {number} ms how long to wait for it.
   * @returns {Promise<string>}
   */
  async line(ms) {
    const { stdout } = this.#process
    if (stdout === null) throw new Error(`${this.#name} could not be started`)
    const lines = createInterface({ input: stdout })
    const [line] = await this.#first(lines, 'line', ms)
    return line
  }

  /**
   * The port that it says it listens on, in its next line.
   * @param {number} ms how long to wait for it.
   */
  async port(ms) {
    const line = await this.line(ms)
    const port = Number(/^listening (\d+)$/.exec(line)?.[1])
    if (!port) throw new Error(`${this.#name} printed «${line}» instead of its port`)
    return port
  }

  /**
   * @template T
   * @param {object} question
   * @param {number} ms how long to wait for the answer.
   * @returns {Promise<T>}
   */
  async ask(question, ms) {
    // When the process is gone the answer never arrives, which `#first` reports better than `send`.
    this.#process.send(question, () => {})
    const [answer] = await this.#first(this.#process, 'message', ms)
    if (typeof answer.error === 'string') throw new Error(answer.error)
    return answer
  }

  async stop() {
    this.#process.kill('SIGKILL')
    await this.#gone
  }

  /** The last output of a process that ended by itself; undefined while it runs. */
  get failure() {
    const { exitCode, signalCode, pid } = this.#process
    if (exitCode === null && signalCode === null && pid !== undefined) return undefined
    // The message of an uncaught error without its class.
    const said = /^\S*Error\b[^:\n]*: (.+)$/m.exec(this.#stderr)?.[1]
    return (
      said ??
      [`${this.#name} ended with ${signalCode ?? `exit code ${exitCode}`}`, this.#stderr].join('\n').trim()
    )
  }

  /**
   * @param {import('node:events').EventEmitter} emitter
   * @param {string} event
   * @param {number} ms
   */
  async #first(emitter, event, ms) {
    const done = new AbortController()
    const { signal } = done
    const gone = this.#gone.then(() => {
      throw new Error(this.failure)
    })
    const late = sleep(ms, undefined, { signal }).then(() => {
      throw new Error(`${this.#name} did not answer within ${ms / 1000} s`)
    })
    try {
      return await Promise.race([once(emitter, event, { signal }), gone, late])
    } finally {
      done.abort()
    }
  }
}
