import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Test } from 'tap'
import * as ws from 'ws'
import * as own from '../../lib/ws/index.js'
import { tick, withDeadline } from '../helpers/app.js'

/** Options that both packages have. */
export type ServerOptions = Omit<ws.ServerOptions, 'WebSocket'>

/** The parts that both packages have. */
export interface Implementation {
  readonly name: string
  readonly WebSocketServer: new (options: ServerOptions, callback?: () => void) => ws.WebSocketServer
  readonly WebSocket: { readonly OPEN: number; [Symbol.hasInstance](value: unknown): boolean }
  readonly createWebSocketStream: (socket: never) => Duplex
}

export const OURS: Implementation = { name: 'ours', ...own }
export const IMPLEMENTATIONS: readonly Implementation[] = [{ name: 'ws', ...ws }, OURS]

/** The port that a server of any kind listens on. */
export function portOf(server: { address(): unknown }): number {
  const address = server.address()
  if (typeof address === 'object' && address !== null && 'port' in address) return Number(address.port)
  throw new Error('the server does not listen on a port')
}

/** A WebSocketServer that listens on its own port. */
export async function listening(
  t: Test,
  { WebSocketServer }: Pick<Implementation, 'WebSocketServer'>,
  options: object = {}
): Promise<{ server: ws.WebSocketServer; port: number }> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', ...options })
  endAfter(t, server)
  await withDeadline(once(server, 'listening'), 10_000, 'listening')
  return { server, port: portOf(server) }
}

/** A WebSocketServer of this package that listens on its own port, and the errors that it emits. */
export async function start(
  t: Test,
  options: own.ServerOptions = {}
): Promise<{ server: own.WebSocketServer; errors: readonly Error[]; port: number }> {
  const server = new own.WebSocketServer({ port: 0, host: '127.0.0.1', ...options })
  const errors: Error[] = []
  server.on('error', error => errors.push(error))
  endAfter(t, server)
  await withDeadline(once(server, 'listening'), 10_000, 'listening')
  return { server, errors, port: portOf(server) }
}

/** An HTTP server that passes each upgrade to `onUpgrade`. */
export async function upgrading(
  t: Test,
  onUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
): Promise<{ http: Server; port: number }> {
  const http = await serving(t)
  http.on('upgrade', onUpgrade)
  return { http, port: portOf(http) }
}

/** An HTTP server that listens. */
export async function serving(t: Test): Promise<Server> {
  const http = createServer((_request, response) => response.end('page'))
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  t.teardown(() => {
    http.closeAllConnections()
    http.close()
  })
  return http
}

/** Ends the server and its connections at the end of the test. */
export function endAfter(t: Test, server: ws.WebSocketServer): void {
  t.teardown(() => {
    server.close()
    for (const client of server.clients ?? []) client.terminate()
  })
}

/** Resolves when no client is connected. */
export async function emptied({ clients }: { readonly clients: ReadonlySet<unknown> }): Promise<void> {
  const wait = async (): Promise<void> => {
    while (clients.size > 0) await tick()
  }
  await withDeadline(wait(), 10_000, 'the last client leaves')
}

/** Replies to each message with the same message. */
export function echo(server: ws.WebSocketServer): void {
  server.on('connection', socket => {
    socket.on('error', () => {})
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
}
