import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Test } from 'tap'

const HOST = '127.0.0.1'

/** Something between clients and an engine that passes on all that it gets, until it is told otherwise. */
export class EngineProxy {
  readonly server: Server
  /** Those of the clients, in the order in which they came. */
  readonly connections: Socket[] = []
  /** Milliseconds that what the clients send takes. */
  delay = 0
  readonly #upstreams: Socket[] = []
  readonly #muted = new Set<Socket>()

  constructor(port: number) {
    this.server = createServer(socket => this.#take(socket, connect(port, HOST)))
  }

  #take(socket: Socket, upstream: Socket): void {
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

  /** What it sends arrives nowhere from now on. */
  mute(socket: Socket | undefined): void {
    if (socket !== undefined) this.#muted.add(socket)
  }

  /** Ends all connections. */
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
