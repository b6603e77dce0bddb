import { once } from 'node:events'
import { IncomingMessage, ServerResponse } from 'node:http'
import { connect } from 'node:net'
import expressPlugin from '@fastify/express'
import middie from '@fastify/middie'
import express, { type Express } from 'express'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import upgrade from '../../lib/index.js'
import { bareApp, codeOf, headerOf, listen, open, request, shake, withDeadline } from '../helpers/app.js'

// Express changes the prototype of each request and response that it handles.

/** An application of Express, with its own page. */
function pages(): Express {
  const app = express()
  app.use((_request, response, next) => {
    response.cookie('seen', 'yes')
    next()
  })
  app.get('/express', (_request, response) => {
    response.send('page')
  })
  return app
}

const WAYS: Readonly<Record<string, (app: FastifyInstance) => Promise<void>>> = {
  '@fastify/express': async app => {
    await app.register(expressPlugin)
    app.use(pages())
  },
  '@fastify/middie': async app => {
    await app.register(middie)
    app.use(pages())
  },
  '@fastify/middie, late': async app => {
    await app.register(middie, { hook: 'preHandler' })
    app.use(pages())
  },
  'another prototype in a hook': async app => {
    app.addHook('onRequest', async ({ raw: message }, { raw: response }) => {
      Object.setPrototypeOf(message, Object.create(IncomingMessage.prototype))
      Object.setPrototypeOf(response, Object.create(ServerResponse.prototype))
      response.setHeader('set-cookie', 'seen=yes; Path=/')
    })
    app.get('/express', async () => 'page')
  }
}

for (const [way, add] of Object.entries(WAYS)) {
  for (const order of ['before', 'after']) {
    t.test(`WebSocket routes work with ${way}, registered ${order} the plugin`, async t => {
      const { app } = bareApp(t)
      if (order === 'before') await add(app)
      await app.register(upgrade)
      if (order === 'after') await add(app)
      app.get('/ws', { websocket: true }, (socket, { raw }) => {
        socket.on('message', data => socket.send(`${raw.url} ${data}`))
      })
      app.get(
        '/refused',
        {
          websocket: true,
          preHandler: async (_request, reply) => reply.code(401).send({ no: true })
        },
        () => {}
      )
      app.get(
        '/failing',
        {
          websocket: true,
          preHandler: async () => {
            throw new Error('broken')
          }
        },
        () => {}
      )
      app.get('/page', async () => 'fastify')
      const port = await listen(app)

      const client = await open(t, port, '/ws')
      client.socket.send('hello')
      t.equal(await client.next(), '/ws hello')
      t.match(client.headers['set-cookie'], ['seen=yes; Path=/'])
      client.socket.close(1000)
      t.equal(await client.closed(), '1000')
      const refused = await shake(t, port, '/refused')
      t.equal(refused.status, 401)
      t.equal(headerOf(refused, 'set-cookie'), 'seen=yes; Path=/')
      t.equal((await shake(t, port, '/failing')).status, 500)
      t.equal((await shake(t, port, '/nowhere')).status, 404)
      const forbidden = await shake(t, port, '/ws', { Origin: 'https://elsewhere.example' })
      t.equal(codeOf(forbidden), 'FST_UPGRADE_FORBIDDEN_ORIGIN')
      t.equal((await request(t, port, 'GET', '/express')).body, 'page')
      t.equal((await request(t, port, 'GET', '/page')).body, 'fastify')
      t.equal((await request(t, port, 'GET', '/ws')).status, 426)
      const last = await open(t, port, '/ws')
      await withDeadline(app.close(), 10_000, 'app.close()')
      t.equal(await last.closed(), '1001')
    })
  }
}

t.test('a middleware of Express refuses a handshake, and the connection ends', async t => {
  const { app } = bareApp(t)
  await app.register(expressPlugin)
  await app.register(upgrade)
  app.use('/closed', (_request, response) => {
    response.status(401).send('no')
  })
  app.get('/closed', { websocket: true }, () => {})
  const port = await listen(app)
  const refused = await shake(t, port, '/closed')
  t.equal(refused.status, 401)
  t.equal(refused.body, 'no')
})

t.test('a client that keeps a refused connection open is cut with Express, too', async t => {
  const { app } = bareApp(t)
  await app.register(expressPlugin)
  await app.register(upgrade)
  app.get(
    '/refused',
    { websocket: true, preHandler: async (_request, reply) => reply.code(401).send() },
    () => {}
  )
  const port = await listen(app)
  const client = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  t.teardown(() => client.destroy())
  client.on('error', () => {}).resume()
  client.write(
    'GET /refused HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n'
  )
  await once(client, 'end')
  const open = (): Promise<number> =>
    new Promise(resolve => app.server.getConnections((_error, count) => resolve(count)))
  const cut = async (): Promise<void> => {
    while ((await open()) > 0) await new Promise(resolve => setTimeout(resolve, 50))
  }
  await withDeadline(cut(), 20_000, 'the end of the connection')
})
