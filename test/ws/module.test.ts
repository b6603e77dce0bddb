import { createRequire } from 'node:module'
import t from 'tap'
import { WebSocket as PluginWebSocket } from '../../lib/index.js'
import ws, * as all from '../../lib/ws/index.js'

t.test('the module has the exports of ws, by name and on the class', async t => {
  t.strictSame(Object.keys(all).sort(), ['WebSocket', 'WebSocketServer', 'createWebSocketStream', 'default'])
  t.equal(ws, all.WebSocket)
  t.equal(ws.WebSocket, ws)
  t.equal(ws.Server, all.WebSocketServer)
  t.equal(ws.WebSocketServer, all.WebSocketServer)
  t.equal(ws.createWebSocketStream, all.createWebSocketStream)
  t.ok(new ws.Server({ noServer: true }) instanceof all.WebSocketServer)
})

t.test('sockets of plugin routes are instances of this class, too', async t => {
  t.ok(PluginWebSocket.prototype instanceof all.WebSocket)
  t.strictSame([ws.CONNECTING, ws.OPEN, ws.CLOSING, ws.CLOSED], [0, 1, 2, 3])
})

t.test('there is no client', async t => {
  const error = t.throws(() => Reflect.construct(ws, ['ws://127.0.0.1']), { code: 'FST_UPGRADE_NO_CLIENT' })
  t.type(error, TypeError)
})

t.test('import and require of the built package return the same exports', async t => {
  const imported: Readonly<Record<string, unknown>> = await import('fastify-upgrade/ws')
  const required: Readonly<Record<string, unknown>> = createRequire(import.meta.url)('fastify-upgrade/ws')
  t.equal(required, imported.default)
  t.equal(required.Server, imported.WebSocketServer)
  t.equal(required.OPEN, 1)
  const { WebSocket }: Readonly<Record<string, unknown>> = await import('fastify-upgrade')
  t.equal(Object.getPrototypeOf(WebSocket), imported.default)
})
