import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { WebSocket as Client } from 'ws'
import upgrade, { type WebSocket } from '../../lib/index.js'
import { ms, portOf, watchProcess, withDeadline } from '../helpers/app.js'

// Servers replace each other while thousands of clients are served, and every message is accounted for.

const CLIENTS = 2_000
/** The number of clients that are reset from time to time: messages to them are lost, and must be reported as lost. */
const UNRELIABLE = 50
const SPREAD = ms(4_000)
const RESTART = 1012

/** The records of a server about a connection, and those of its client. */
class Account {
  /** Messages that `send` accepted while the connection was open, and the results of their callbacks. */
  accepted = 0
  written = 0
  failed = 0
  /** Messages that the client received, in order. */
  arrived = 0
  isInOrder = true
  /** The close code that the client received. */
  code = 0
}

/** The record of the whole test. */
class Ledger {
  readonly accounts: Account[] = []
  /** The port of the server that clients connect to. */
  port = 0
  refused = 0
  /** The times of the closes of a restart. */
  closes: number[] = []
  isOver = false

  open(): readonly [number, Account] {
    const account = new Account()
    return [this.accounts.push(account) - 1, account]
  }
}

/** A server that greets each client with a number, and sends more to all of them after the first call of `talk`. */
class NumberServer {
  readonly #sockets = new Map<WebSocket, Account>()
  #timer: NodeJS.Timeout | undefined
  /** Messages whose callback has not been called. */
  #unwritten = 0
  readonly app: FastifyInstance

  private constructor(app: FastifyInstance) {
    this.app = app
  }

  /** A round waits until the previous one is written, so the rate depends on the speed of the machine. */
  talk(): void {
    this.#timer ??= setInterval(() => {
      if (this.#unwritten > 0) return
      for (const [socket, account] of this.#sockets) this.#send(socket, account)
    }, 100)
  }

  static async start(t: Test, ledger: Ledger): Promise<NumberServer> {
    const app: FastifyInstance = Fastify()
    const server = new NumberServer(app)
    t.teardown(() => server.stop())
    await app.register(upgrade, { shutdown: { code: RESTART, spread: SPREAD, timeout: ms(20_000) } })
    app.get('/:id', { websocket: true }, (socket, request) => {
      const { id } = request.params as { id: string }
      const account = ledger.accounts[Number(id)]
      if (account === undefined) return
      server.#sockets.set(socket, account)
      server.#send(socket, account)
      // A reply to each message of the client, at any moment of the shutdown.
      socket.on('message', () => server.#send(socket, account))
      socket.on('close', () => server.#sockets.delete(socket))
    })
    // All clients may connect at the same time. A client that finds the queue full retries after seconds, then after minutes.
    await app.listen({ port: 0, host: '127.0.0.1', backlog: CLIENTS })
    ledger.port = portOf(app)
    return server
  }

  async stop(): Promise<void> {
    await this.app.close()
    clearInterval(this.#timer)
  }

  #send(socket: WebSocket, account: Account): void {
    if (socket.readyState !== socket.OPEN) return
    this.#unwritten++
    socket.send(`${account.accepted++}`, error => {
      this.#unwritten--
      if (error) account.failed++
      else account.written++
    })
  }
}

/** Connects, counts, and reconnects when the connection is closed. */
class Listener {
  readonly #ledger: Ledger
  #client: Client
  #isOpen = false

  constructor(ledger: Ledger) {
    this.#ledger = ledger
    this.#client = this.#connect(ledger.port)
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  reset(): void {
    this.#client.terminate()
  }

  stop(): void {
    this.#client.close()
  }

  #connect(port: number): Client {
    const [id, account] = this.#ledger.open()
    const client = new Client(`ws://127.0.0.1:${port}/${id}`, { perMessageDeflate: false })
    client.on('open', () => {
      this.#isOpen = true
    })
    client.on('message', data => {
      account.isInOrder &&= String(data) === `${account.arrived}`
      account.arrived++
      if (account.arrived % 4 === 0) client.send('go on')
    })
    client.on('error', () => this.#ledger.refused++)
    client.on('close', code => {
      this.#isOpen = false
      account.code = code
      if (code === RESTART) this.#ledger.closes.push(performance.now())
      if (this.#ledger.isOver) return
      // Some do not know yet that there is another server.
      const old = code === RESTART && id % 10 === 0
      this.#client = this.#connect(old ? port : this.#ledger.port)
    })
    return client
  }
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const wait = async (): Promise<void> => {
    while (!condition()) await new Promise(resolve => setTimeout(resolve, 20))
  }
  await withDeadline(wait(), 30_000, what)
}

/** The number of fifths of a spread in which connections were closed. */
function fifths(closes: readonly number[], start: number): number {
  return new Set(closes.map(at => Math.min(4, Math.floor((at - start) / (SPREAD / 5))))).size
}

t.test(`${CLIENTS} clients move from server to server, and no message is lost without an error`, async t => {
  const uncaught = watchProcess(t)
  const ledger = new Ledger()
  let server = await NumberServer.start(t, ledger)
  const listeners: Listener[] = []
  t.teardown(() => {
    ledger.isOver = true
    for (const listener of listeners) listener.reset()
  })
  for (let i = 0; i < CLIENTS; i++) {
    listeners.push(new Listener(ledger))
    // The backlog of a listening socket is short.
    if (i % 100 === 99) await until(() => listeners.every(({ isOpen }) => isOpen), 'open connections')
  }
  for (const round of ['first', 'second']) {
    const old = server
    server = await NumberServer.start(t, ledger)
    const start = performance.now()
    ledger.closes = []
    old.talk()
    const stopped = old.stop()
    for (let i = 0; i < UNRELIABLE; i++) {
      listeners[Math.floor(Math.random() * CLIENTS)]?.reset()
      await new Promise(resolve => setTimeout(resolve, SPREAD / UNRELIABLE))
    }
    await withDeadline(stopped, 25_000, 'the end of the old server')
    const took = performance.now() - start
    t.equal(old.app.websocketServer.clients.size, 0)
    t.ok(took < SPREAD + ms(10_000), `the ${round} restart took ${Math.round(took)} ms`)
    await until(() => listeners.every(({ isOpen }) => isOpen), 'all clients on the new server')
    t.equal(server.app.websocketServer.clients.size, CLIENTS)
    t.ok(
      ledger.closes.length >= CLIENTS - 2 * UNRELIABLE,
      `${ledger.closes.length} were closed for the restart`
    )
    t.ok(fifths(ledger.closes, start) >= 3, 'not all at the same time')
  }
  ledger.isOver = true
  for (const listener of listeners) listener.stop()
  await server.stop()
  await until(() => listeners.every(({ isOpen }) => !isOpen), 'the end of the clients')
  t.ok(ledger.refused > 0, `${ledger.refused} handshakes were refused by a closing server`)
  checkAccounts(t, ledger.accounts)
  t.strictSame(uncaught, [])
})

/** accepted = written + failed; and clients that were closed for the restart had received everything. */
function checkAccounts(t: Test, accounts: readonly Account[]): void {
  const opened = accounts.filter(({ accepted }) => accepted > 0)
  const closed = opened.filter(({ code }) => code === RESTART)
  const sum = (of: (account: Account) => number): number => opened.reduce((total, one) => total + of(one), 0)
  const accepted = sum(one => one.accepted)
  const arrived = sum(one => one.arrived)
  const failed = sum(one => one.failed)
  t.comment(`${opened.length} connections, ${closed.length} closed with ${RESTART}`)
  t.comment(`${accepted} messages accepted, ${arrived} arrived, ${failed} failed`)
  t.ok(closed.length >= 2 * (CLIENTS - 2 * UNRELIABLE))
  t.equal(sum(one => one.written) + failed, accepted, 'each callback was called once')
  t.strictSame(
    closed.filter(one => one.arrived !== one.accepted || one.failed > 0),
    [],
    'all arrived'
  )
  t.strictSame(
    opened.filter(one => !one.isInOrder),
    [],
    'in order'
  )
  t.strictSame(
    opened.filter(one => one.arrived > one.written),
    [],
    'received messages were counted as written'
  )
}
