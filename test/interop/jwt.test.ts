import jwt from '@fastify/jwt'
import t, { type Test } from 'tap'
import { codeOf, headerOf, listen, makeApp, open, shake } from '../helpers/app.js'

declare module '@fastify/jwt' {
  interface FastifyJWT {
    user: { name: string }
  }
}

async function start(t: Test) {
  const { app } = await makeApp(t)
  await app.register(jwt, { secret: 'a secret' })
  // Pages cannot set Authorization, so they send the token in the query string.
  app.get<{ Querystring: { token?: string } }>(
    '/',
    {
      websocket: true,
      preValidation: request => {
        const { token } = request.query
        if (token !== undefined) request.headers.authorization = `Bearer ${token}`
        return request.jwtVerify()
      }
    },
    (socket, { user }) => {
      socket.on('message', data => socket.send(`${user.name}: ${data}`))
    }
  )
  return { app, port: await listen(app) }
}

t.test('@fastify/jwt: a valid token in a header or in the query string is accepted', async t => {
  const { app, port } = await start(t)
  const token = app.jwt.sign({ name: 'ada' })
  const clients = [
    await open(t, port, '/', { headers: { authorization: `Bearer ${token}` } }),
    await open(t, port, `/?token=${token}`)
  ]
  for (const client of clients) {
    client.socket.send('hello')
    t.equal(await client.next(), 'ada: hello')
  }
})

t.test('@fastify/jwt: a missing, invalid or expired token gets 401 as JSON', async t => {
  const { app, port } = await start(t)
  const old = app.jwt.sign({ name: 'ada', iat: 1 }, { expiresIn: '1s' })
  const good = app.jwt.sign({ name: 'ada' })
  const cases = [
    [undefined, 'FST_JWT_NO_AUTHORIZATION_IN_HEADER'],
    [`${good.slice(0, -4)}AAAA`, 'FST_JWT_AUTHORIZATION_TOKEN_INVALID'],
    [old, 'FST_JWT_AUTHORIZATION_TOKEN_EXPIRED']
  ]
  for (const [token, code] of cases) {
    const refused = await shake(t, port, '/', token === undefined ? {} : { Authorization: `Bearer ${token}` })
    t.strictSame([refused.status, codeOf(refused)], [401, code])
    t.match(headerOf(refused, 'content-type'), /^application\/json/)
  }
  t.equal(app.websocketServer.clients.size, 0)
})
