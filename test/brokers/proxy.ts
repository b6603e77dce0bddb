import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Test } from 'tap'

const HOST = '127.0.0.1'

/** Writes data later, in its order, also when the delay changes. */
class Delayed {
  readonly #socket: Socket
  readonly #queue: (() => void)[] = []

  constructor(socket: Socket) {
    this.#socket = socket
  }

  write(data: Buffer, delay: number): void {
    this.#schedule(() => this.#socket.write(data), delay)
  }

  end(delay: number): void {
    this.#schedule(() => this.#socket.end(), delay)
  }

  #schedule(step: () => void, delay: number): void {
    if (delay === 0 && this.#queue.length === 0) step()
    else {
      this.#queue.push(step)
      setTimeout(() => this.#queue.shift()?.(), delay)
    }
  }
}

/** A TCP proxy between clients and an engine. It can mute, delay and cut connections. */
export class EngineProxy {
  readonly server: Server
  /** The connections of clients, in the order in which they were opened. */
  readonly connections: Socket[] = []
  /** Milliseconds by which data of the clients is delayed. */
  delay = 0
  /** Milliseconds by which data of the engine is delayed. */
  replyDelay = 0
  readonly #upstreams: Socket[] = []
  readonly #muted = new Set<Socket>()

  constructor(port: number) {
    this.server = createServer(socket => this.#onConnection(socket, connect(port, HOST)))
  }

  #onConnection(socket: Socket, upstream: Socket): void {
    for (const one of [socket, upstream]) one.on('error', () => {})
    this.connections.push(socket)
    this.#upstreams.push(upstream)
    const toEngine = new Delayed(upstream)
    const toClient = new Delayed(socket)
    socket.on('data', data => {
      if (!this.#muted.has(socket)) toEngine.write(data, this.delay)
    })
    socket.on('close', () => upstream.destroy())
    upstream.on('data', data => toClient.write(data, this.replyDelay))
    upstream.on('close', () => toClient.end(this.replyDelay))
  }

  get port(): number {
    const address = this.server.address()
    return typeof address === 'object' && address !== null ? address.port : 0
  }

  /** Drops the data that a client sends from now on. */
  mute(socket: Socket | undefined): void {
    if (socket !== undefined) this.#muted.add(socket)
  }

  /** Destroys all connections. */
  cut(): void {
    for (const socket of [...this.connections.splice(0), ...this.#upstreams.splice(0)]) socket.destroy()
  }
}

export async function startProxy(t: Test, engine: { readonly port: number }): Promise<EngineProxy> {
  const proxy = new EngineProxy(engine.port)
  proxy.server.listen(0, HOST)
  await once(proxy.server, 'listening')
  t.teardown(() => {
    proxy.server.close()
    proxy.cut()
  })
  return proxy
}
