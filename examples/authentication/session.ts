// Browsers send their cookies with the handshake, so the user who is signed in on the page is signed in here.
import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import cookie from '@fastify/cookie'
import session from '@fastify/session'
import Fastify, { type FastifyRequest } from 'fastify'
import upgrade from 'fastify-upgrade'

declare module 'fastify' {
  interface Session {
    user?: string
  }
}

const {
  PORT = '3000',
  SECRET = '',
  PASSWORD = '',
  SESSION_SECONDS = '3600',
  CHECK_SECONDS = '10'
} = process.env
const hash = promisify<string, Buffer, number, Buffer>(scrypt)
const salt = randomBytes(16)
const users = new Map([['ada', await hash(PASSWORD, salt, 32)]])

const app = Fastify({ trustProxy: '127.0.0.1' })
// Before the sessions: a page of another origin is refused before its cookies are looked at.
await app.register(upgrade)
await app.register(cookie)
await app.register(session, {
  secret: SECRET, // at least 32 random characters
  saveUninitialized: false,
  // `auto`: Secure over HTTPS. SameSite=Lax is a second guard. It accepts pages of sub-domains; the origin check does not.
  cookie: { httpOnly: true, secure: 'auto', sameSite: 'lax', maxAge: Number(SESSION_SECONDS) * 1000 }
})

const body = {
  type: 'object',
  properties: { user: { type: 'string' }, password: { type: 'string', maxLength: 1000 } },
  required: ['user', 'password']
}
type SignIn = { Body: { user: string; password: string } }

app.post<SignIn>('/sign-in', { schema: { body } }, async (request, reply) => {
  const { user, password } = request.body
  const actual = await hash(password, salt, 32)
  if (!timingSafeEqual(actual, users.get(user) ?? randomBytes(32))) {
    return reply.code(401).send({ message: 'wrong name or password' })
  }
  await request.session.regenerate() // prevents session fixation
  request.session.user = user
  return { user }
})

app.post('/sign-out', async (request, reply) => {
  await request.session.destroy()
  return reply.code(204).send()
})

app.get(
  '/news',
  {
    websocket: true,
    onRequest: async (request, reply) => {
      if (request.session.user === undefined) return reply.code(401).send({ message: 'sign in first' })
    }
  },
  (socket, request) => {
    socket.send(`hello, ${request.session.user}`)
    // The hooks ran once, and the connection may last for days.
    const timer = setInterval(async () => {
      if (!(await isSignedIn(request))) socket.close(4401, 'signed out')
    }, Number(CHECK_SECONDS) * 1000)
    socket.on('close', () => clearInterval(timer))
  }
)

/** Looks the session up in the store: since the handshake, any process may have ended or extended it. */
function isSignedIn({ sessionStore, session: { sessionId, user } }: FastifyRequest): Promise<boolean> {
  return new Promise(resolve => {
    sessionStore.get(sessionId, (error, found) => {
      const expires = found?.cookie.expires
      const isOver = expires != null && new Date(expires).getTime() <= Date.now()
      resolve(error == null && found?.user === user && !isOver)
    })
  })
}

console.log(await app.listen({ port: Number(PORT), host: '127.0.0.1' }))
process.once('SIGTERM', () => app.close())
