import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Test } from 'tap'

const HOST = '127.0.0.1'

/** A TCP proxy between clients and an engine. It can mute, delay and cut connections. */
export class EngineProxy {
  readonly server: Server
  /** The connections of clients, in the order in which they were opened. */
  readonly connections: Socket[] = []
  /** Milliseconds by which data of the clients is delayed. */
  delay = 0
  readonly #upstreams: Socket[] = []
  readonly #muted = new Set<Socket>()

  constructor(port: number) {
    this.server = createServer(socket => this.#onConnection(socket, connect(port, HOST)))
  }

  #onConnection(socket: Socket, upstream: Socket): void {
    for (const one of [socket, upstream]) one.on('error', () => {})
    this.connections.push(socket)
    this.#upstreams.push(upstream)
    socket.on('data', data => {
      if (!this.#muted.has(socket)) setTimeout(() => upstream.write(data), this.delay)
    })
    socket.on('close', () => upstream.destroy())
    upstream.pipe(socket)
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
    for (const socket of [...this.connections, ...this.#upstreams]) socket.destroy()
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
