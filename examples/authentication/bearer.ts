// Clients other than browsers send `Authorization: Bearer <token>` with the handshake.
import Fastify from 'fastify'
import upgrade from 'fastify-upgrade'
import { bearer, Tokens } from './tokens.js'

const { PORT = '3000', TOKEN = '', TOKEN_SECONDS = '3600' } = process.env
if (TOKEN.length < 32) throw new Error('TOKEN has to be a random text of at least 32 characters')

const tokens = new Tokens()
tokens.add(TOKEN, { user: 'robot', expires: Date.now() + Number(TOKEN_SECONDS) * 1000 })

const app = Fastify()
// The application defines 4401, after the status 401.
await app.register(upgrade, { expires: ({ grant }) => grant?.expires, expiredCode: 4401 })

// The hook belongs to the scope: it applies to all of its routes, for ordinary requests and handshakes.
await app.register(async scope => {
  scope.decorateRequest('grant', undefined)
  scope.addHook('onRequest', async (request, reply) => {
    request.grant = tokens.find(bearer(request.headers.authorization))
    if (request.grant !== undefined) return
    return reply.code(401).header('www-authenticate', 'Bearer').send({ message: 'a valid token is needed' })
  })

  scope.get('/news', { websocket: true }, (socket, { grant }) => {
    socket.send(`hello, ${grant?.user}`)
  })
})

console.log(await app.listen({ port: Number(PORT), host: '127.0.0.1' }))
process.once('SIGTERM', () => app.close())
