import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { open, withDeadline } from './app.js'

/** The plugin's routes that other consumers of the server's upgrades run beside. */
export function addRoutes(app: FastifyInstance): void {
  app.get('/', async () => 'page')
  app.get('/echo', { websocket: true }, socket => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
  app.get('/chat', { websocket: { subprotocol: ['chat.v2', 'chat.v1'] } }, socket => {
    socket.on('message', data => socket.send(`${socket.protocol}: ${data}`))
  })
}

/** Checks that these routes work. */
export async function checkRoutes(t: Test, port: number): Promise<void> {
  const echo = await open(t, port, '/echo')
  const chat = await open(t, port, '/chat', { protocols: ['other', 'chat.v1'] })
  echo.socket.send('one')
  chat.socket.send('two')
  t.equal(await echo.next(), 'one')
  t.equal(await chat.next(), 'chat.v1: two')
  t.strictSame([echo.socket.protocol, chat.socket.protocol], ['', 'chat.v1'])
  for (const client of [echo, chat]) {
    client.socket.close(1000)
    t.equal(await client.closed(), '1000', 'no other consumer has written to the connection')
  }
}

/** `app.close()` ends although clients are connected; they receive 1001. */
export async function checkClose(t: Test, app: FastifyInstance, port: number): Promise<void> {
  const client = await open(t, port, '/echo')
  await withDeadline(app.close(), 15_000, 'app.close()')
  t.equal(await client.closed(), '1001')
  t.equal(app.server.listening, false)
}
