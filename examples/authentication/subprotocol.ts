// Pages cannot set headers of a handshake, but they can offer subprotocols. With its access token, a page requests a ticket
// for one handshake within 30 seconds, and offers it beside its subprotocol:
//
//   const headers = { authorization: `Bearer ${accessToken}` }
//   const { ticket } = await (await fetch('/ticket', { method: 'POST', headers })).json()
//   const socket = new WebSocket(`wss://${location.host}/chat`, ['chat.v1', `token.${ticket}`])
import { randomBytes } from 'node:crypto'
import Fastify from 'fastify'
import upgrade from 'fastify-upgrade'
import { bearer, Tokens } from './tokens.js'

const { PORT = '3000', TOKEN = '', TOKEN_SECONDS = '3600' } = process.env
if (TOKEN.length < 32) throw new Error('TOKEN has to be a random text of at least 32 characters')

const tokens = new Tokens()
const tickets = new Tokens()
tokens.add(TOKEN, { user: 'ada', expires: Date.now() + Number(TOKEN_SECONDS) * 1000 })

const app = Fastify()
await app.register(upgrade, { expires: ({ grant }) => grant?.expires, expiredCode: 4401 })
app.decorateRequest('grant', undefined)

app.post('/ticket', async (request, reply) => {
  const grant = tokens.find(bearer(request.headers.authorization))
  if (grant === undefined) return reply.code(401).header('www-authenticate', 'Bearer').send()
  const ticket = randomBytes(32).toString('base64url')
  tickets.add(ticket, grant, Date.now() + 30_000)
  return { ticket }
})

app.get(
  '/chat',
  {
    // The only subprotocol that is ever selected, so the server never sends the ticket back.
    websocket: { subprotocol: 'chat.v1' },
    onRequest: async (request, reply) => {
      request.grant = tickets.take(ticketOf(request.headers['sec-websocket-protocol']))
      if (request.grant === undefined) return reply.code(401).send({ message: 'a valid ticket is needed' })
    }
  },
  (socket, { grant }) => {
    socket.send(`hello, ${grant?.user}`)
  }
)

/** The ticket among the offers. All characters of base64url are allowed in the name of a subprotocol. */
function ticketOf(offers = ''): string {
  const offer = offers.split(',').find(offer => offer.trim().startsWith('token.'))
  return offer?.trim().slice('token.'.length) ?? ''
}

console.log(await app.listen({ port: Number(PORT), host: '127.0.0.1' }))
process.once('SIGTERM', () => app.close())
