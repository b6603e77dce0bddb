import {
  type FastifyRequestContextOptions,
  fastifyRequestContext,
  requestContext
} from '@fastify/request-context'
import t from 'tap'
import { listen, makeApp, open } from '../helpers/app.js'

declare module '@fastify/request-context' {
  interface RequestContextData {
    user?: unknown
    count: number
  }
}

for (const hook of ['onRequest', 'preValidation'] as const) {
  t.test(`@fastify/request-context, by ${hook}: the listeners have the store of the handshake`, async t => {
    const { app } = await makeApp(t)
    const options: FastifyRequestContextOptions = { hook, defaultStoreValues: () => ({ count: 0 }) }
    await app.register(fastifyRequestContext, options)
    app.addHook('preHandler', async ({ headers, requestContext }) => {
      requestContext.set('user', headers['x-user'])
    })
    app.get('/', { websocket: true }, async (socket, request) => {
      socket.on('message', async () => {
        requestContext.set('count', (requestContext.get('count') ?? 0) + 1)
        await new Promise(setImmediate)
        socket.send(`${requestContext.get('user')} ${request.requestContext.get('count')}`)
      })
    })
    app.get('/loop', { websocket: true }, async socket => {
      for await (const message of socket) socket.send(`${requestContext.get('user')}: ${message}`)
    })
    const port = await listen(app)
    const one = await open(t, port, '/', { headers: { 'x-user': 'one' } })
    const two = await open(t, port, '/', { headers: { 'x-user': 'two' } })
    for (const count of [1, 2]) {
      for (const client of [one, two]) client.socket.send('')
      t.strictSame([await one.next(), await two.next()], [`one ${count}`, `two ${count}`])
    }
    const loop = await open(t, port, '/loop', { headers: { 'x-user': 'three' } })
    loop.socket.send('hello')
    t.equal(await loop.next(), 'three: hello')
  })
}
