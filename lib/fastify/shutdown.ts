import type { FastifyInstance } from 'fastify'
import type { FastifyUpgradeOptions } from '../../types/options.js'
import { shutdownClosing, shutdownCut, shutdownEnded, shutdownStarted } from '../diagnostics.js'
import { setImmediate } from '../limits/deadline.js'
import type { ShutdownSettings } from '../options/table.js'
import { isThenable } from '../socket/events.js'
import type { WebSocket } from './websocket.js'
import type { WebSocketServer } from './websocket-server.js'

/** When a connection is closed. */
interface Turn {
  readonly socket: WebSocket
  readonly at: number
}

/** Closes the connections of a scope at `app.close()`. */
export class Shutdown {
  readonly #app: FastifyInstance
  readonly #server: WebSocketServer
  readonly #settings: ShutdownSettings
  readonly #preClose: FastifyUpgradeOptions['preClose']

  constructor(
    app: FastifyInstance,
    server: WebSocketServer,
    settings: ShutdownSettings,
    preClose: FastifyUpgradeOptions['preClose']
  ) {
    this.#app = app
    this.#server = server
    this.#settings = settings
    this.#preClose = preClose
  }

  /** Milliseconds that {@link run} takes at most. */
  get timeout(): number {
    return this.#settings.timeout
  }

  /** Refuses handshakes from now on. */
  refuse(): void {
    this.#server.close()
  }

  /** Runs `preClose`, closes each connection in its turn and cuts the remaining connections, all within the timeout. */
  async run(): Promise<void> {
    const deadline = performance.now() + this.timeout
    const server = this.#server
    if (shutdownStarted.hasSubscribers) shutdownStarted.publish({ server, connections: server.clients.size })
    const preClosed = this.#runPreClose()
    // `preClose` may wait for clients to leave; leave time to close them afterwards.
    if (preClosed !== undefined) await endsWithin(preClosed, this.timeout / 2)
    if (shutdownClosing.hasSubscribers) shutdownClosing.publish({ server, connections: server.clients.size })
    await this.#closeConnections(deadline)
    if (shutdownEnded.hasSubscribers) shutdownEnded.publish({ server, connections: server.clients.size })
    if (preClosed === undefined || (await endsWithin(preClosed, deadline - performance.now()))) return
    this.#app.log.warn('preClose did not end within shutdown.timeout')
  }

  /** One timer serves any number of connections: it waits for the next turn, or for the deadline. */
  async #closeConnections(deadline: number): Promise<void> {
    const { clients } = this.#server
    const { code, reason, spread, timeout } = this.#settings
    const closed = new Promise<void>(resolve => this.#server.close(resolve))
    const turns = takeTurns(clients, (spread * (deadline - performance.now())) / timeout)
    let timer: NodeJS.Timeout | undefined
    const onTime = (): void => {
      const now = performance.now()
      let next = turns.at(-1)
      for (; next !== undefined && next.at <= now; next = turns.at(-1)) {
        turns.pop()
        next.socket.close(code, reason)
      }
      // Whole milliseconds: fake timers take less than one for none, and come again in no time.
      if (now < deadline)
        timer = setTimeout(onTime, Math.ceil(Math.min(next?.at ?? deadline, deadline) - now))
      // When the process was busy until now, pending data is written and data that has arrived is read first.
      else setImmediate(cut, this.#server)
    }
    onTime()
    await closed
    clearTimeout(timer)
  }

  #runPreClose(): Promise<void> | undefined {
    const preClose = this.#preClose
    if (preClose === undefined) return undefined
    const ended = new Promise<void>((resolve, reject) => {
      const result: unknown = Reflect.apply(preClose, this.#app, [resolve])
      if (isThenable(result)) result.then(() => resolve(), reject)
      else if (preClose.length === 0) resolve()
    })
    // The connections have to be closed anyway, or the server would wait for them forever.
    return ended.catch(error => this.#app.log.error({ err: error }, 'preClose failed'))
  }
}

/** Whether a promise that does not reject settles in time. */
export async function endsWithin(promise: Promise<void>, milliseconds: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>(resolve => {
    timer = setTimeout(() => resolve(false), milliseconds)
  })
  const inTime = await Promise.race([promise.then(() => true), late])
  clearTimeout(timer)
  return inTime
}

/** Random moments, so that peers that connect again do not all do it at once. Sorted in descending order, so `pop` takes the earliest. */
function takeTurns(clients: ReadonlySet<WebSocket>, spread: number): Turn[] {
  const now = performance.now()
  return Array.from(clients, socket => ({ socket, at: now + Math.random() * spread })).sort(
    (a, b) => b.at - a.at
  )
}

function cut(server: WebSocketServer): void {
  const { clients } = server
  if (shutdownCut.hasSubscribers) shutdownCut.publish({ server, connections: clients.size })
  for (const socket of clients) socket.terminate()
}
