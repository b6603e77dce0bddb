// A client renews its access token while its connection stays open: over the socket, or with an HTTP request.
import { randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import upgrade from 'fastify-upgrade'
import { bearer, Tokens } from './tokens.js'

const { PORT = '3000', TOKEN = '', TOKEN_SECONDS = '3600' } = process.env
if (TOKEN.length < 32) throw new Error('TOKEN has to be a random text of at least 32 characters')

const tokens = new Tokens()
const expiry = () => Date.now() + Number(TOKEN_SECONDS) * 1000
tokens.add(TOKEN, { user: 'ada', expires: expiry() })

const app = Fastify()
await app.register(upgrade, {
  user: ({ grant }) => grant?.user,
  expires: ({ grant }) => grant?.expires,
  expiredCode: 4401
})
app.decorateRequest('grant', undefined)
app.addHook('onRequest', async (request, reply) => {
  request.grant = tokens.find(bearer(request.headers.authorization))
  if (request.grant !== undefined) return
  return reply.code(401).header('www-authenticate', 'Bearer').send({ message: 'a valid token is needed' })
})

// A new access token for a valid one. Real applications take a refresh token here.
app.post('/token', async ({ grant }) => {
  const token = randomBytes(32).toString('base64url')
  if (grant !== undefined) tokens.add(token, { user: grant.user, expires: expiry() })
  return { token }
})

// Over the socket: each message of the client is its new access token.
app.get('/news', { websocket: true }, socket => {
  socket.send(`hello, ${socket.user}`)
  socket.on('message', data => {
    const grant = tokens.find(data.toString())
    // The token of another user must not prolong the connection of this one.
    if (grant === undefined || grant.user !== socket.user) return socket.close(4401, 'not renewed')
    socket.renew(grant.expires)
    socket.send('renewed')
  })
})

// With an HTTP request: the new token renews all connections of its user, in whichever process they are.
app.post('/renew', async ({ grant }, reply) => {
  if (grant === undefined) return reply.code(401).send()
  const { connections, isComplete } = await app.websocketServer.user(grant.user).renew(grant.expires)
  return { connections, isComplete }
})

console.log(await app.listen({ port: Number(PORT), host: '127.0.0.1' }))
process.once('SIGTERM', () => app.close())
