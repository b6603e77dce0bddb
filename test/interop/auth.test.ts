import auth from '@fastify/auth'
import type { FastifyReply, FastifyRequest } from 'fastify'
import t from 'tap'
import { listen, makeApp, open, shake } from '../helpers/app.js'

t.test('@fastify/auth: strategies accept and refuse handshakes', async t => {
  const { app } = await makeApp(t)
  await app.register(auth)
  const byKey = async ({ headers }: FastifyRequest): Promise<void> => {
    if (headers['x-key'] !== 'good') throw Object.assign(new Error('no key'), { statusCode: 401 })
  }
  const byName = (request: FastifyRequest, _reply: FastifyReply, done: (error?: Error) => void): void => {
    done(request.headers['x-name'] === 'ada' ? undefined : new Error('no name'))
  }
  app.get('/either', { websocket: true, preHandler: app.auth([byKey, byName]) }, socket => socket.send('in'))
  app.get('/both', { websocket: true, preHandler: app.auth([byKey, byName], { relation: 'and' }) }, socket =>
    socket.send('in')
  )
  const port = await listen(app)
  const key = { 'x-key': 'good' }
  const name = { 'x-name': 'ada' }
  for (const headers of [key, name]) {
    t.equal(await (await open(t, port, '/either', { headers })).next(), 'in')
    t.equal((await shake(t, port, '/both', headers)).status, 401)
  }
  t.equal(await (await open(t, port, '/both', { headers: { ...key, ...name } })).next(), 'in')
  const refused = await shake(t, port, '/either')
  t.strictSame([refused.status, JSON.parse(refused.body).message], [401, 'no name'])
})
