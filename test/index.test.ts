import { createRequire } from 'node:module'
import t from 'tap'
import * as all from '../lib/index.js'

t.test('the exports', async t => {
  t.strictSame(Object.keys(all).sort(), [
    'WebSocket',
    'WebSocketServer',
    'default',
    'fastifyUpgrade',
    'module.exports'
  ])
  t.equal(all.default, all.fastifyUpgrade)
})

t.test('the package by its name, as built: import and require give the same plugin', async t => {
  const imported: Readonly<Record<string, unknown>> = await import('fastify-upgrade')
  t.type(imported.default, 'function')
  const required: unknown = createRequire(import.meta.url)('fastify-upgrade')
  t.equal(required, imported.default)
})
