import swagger from '@fastify/swagger'
import t, { type Test } from 'tap'
import { asyncapi } from '../../lib/asyncapi/index.js'
import upgrade from '../../lib/index.js'
import { bareApp } from '../helpers/app.js'

/** The operations of an OpenAPI document, and their summaries. */
async function operations(t: Test, order: 'before' | 'after'): Promise<unknown[]> {
  const { app } = bareApp(t)
  if (order === 'before') await app.register(swagger, { openapi: {} })
  await app.register(upgrade)
  if (order === 'after') await app.register(swagger, { openapi: {} })
  const schema = { summary: 'WebSocket' }
  app.get('/hidden', { websocket: true, schema }, () => {})
  app.get('/without-schema', { websocket: { subprotocol: 'chat' } }, () => {})
  app.get('/shown', { websocket: true, schema: { ...schema, hide: false } }, () => {})
  app.get('/beside', { websocket: true, schema }, () => {})
  app.get('/beside', { schema: { summary: 'page' } }, async () => 'page')
  for (const hide of [undefined, false]) {
    app.route({
      method: 'GET',
      url: `/both/${hide}`,
      schema: { summary: 'page', ...(hide === false && { hide }) },
      handler: async () => 'page',
      wsHandler: () => {}
    })
  }
  await app.ready()
  const { paths = {} } = app.swagger()
  return Object.entries(paths).map(([path, item]) => [
    path,
    Object.keys(item ?? {}),
    Reflect.get(Object(item).get, 'summary')
  ])
}

// An operation that always answers 426 is not useful, and OpenAPI cannot describe WebSocket.
for (const order of ['before', 'after'] as const) {
  t.test(
    `@fastify/swagger, registered ${order} the plugin: WebSocket routes are listed if their schema says so`,
    async t => {
      t.strictSame(await operations(t, order), [
        ['/shown', ['get'], 'WebSocket'],
        ['/beside', ['get'], 'page'],
        ['/both/undefined', ['get'], 'page'],
        ['/both/false', ['get'], 'page']
      ])
    }
  )
}

t.test('@fastify/swagger and the AsyncAPI plugin together: each has the routes of its kind', async t => {
  const { app } = bareApp(t)
  await app.register(swagger, { openapi: {} })
  await app.register(upgrade)
  await app.register(asyncapi, { info: { title: 'Test', version: '1.0.0' }, routePrefix: '/asyncapi' })
  const schema = { summary: 'Rooms', tags: ['rooms'], params: { type: 'object', properties: {} } }
  app.get('/rooms', { schema }, async () => [])
  app.get('/rooms', { websocket: true, schema: { ...schema, receive: { type: 'object' } } }, () => {})
  app.route({ method: 'GET', url: '/both', schema, handler: async () => 'page', wsHandler: () => {} })
  await app.ready()
  t.strictSame(Object.keys(app.swagger().paths ?? {}), ['/rooms', '/both'])
  const { channels } = app.asyncapi()
  t.strictSame(
    Object.values(channels).map(({ address }) => address),
    ['/rooms', '/both']
  )
})
