import cookie from '@fastify/cookie'
import t from 'tap'
import { codeOf, headerOf, listen, makeApp, open, shake } from '../helpers/app.js'

t.test('@fastify/cookie: cookies are parsed, and cookies that hooks set are sent with the 101', async t => {
  const { app } = await makeApp(t)
  await app.register(cookie, { secret: 'a secret that is long enough for anybody' })
  app.addHook('onRequest', async (request, reply) => {
    reply.setCookie('visits', String(Number(request.cookies.visits ?? 0) + 1), { path: '/', httpOnly: true })
    reply.setCookie('user', 'ada', { signed: true })
    if (request.cookies.old !== undefined) reply.clearCookie('old')
  })
  app.get('/', { websocket: true }, (socket, { cookies, unsignCookie }) => {
    socket.send(JSON.stringify({ visits: cookies.visits, user: unsignCookie(cookies.user ?? '').value }))
  })
  const port = await listen(app)
  const first = await shake(t, port, '/')
  t.equal(first.status, 101)
  const set = first.headers.get('set-cookie') ?? []
  t.equal(set.length, 2)
  t.match(set[0], /^visits=1; Path=\/; HttpOnly; SameSite=Lax$/)
  const [, signed = ''] = /^(user=[^;]+)/.exec(set[1] ?? '') ?? []
  const client = await open(t, port, '/', { headers: { cookie: `visits=1; old=x; ${signed}` } })
  t.strictSame(JSON.parse(await client.next()), { visits: '1', user: 'ada' })
  t.match(client.headers['set-cookie'], [/^visits=2;/, /^user=/, /^old=; .*Expires=Thu, 01 Jan 1970/])
})

t.test('@fastify/cookie: cookies are sent with refusals, too', async t => {
  const { app } = await makeApp(t)
  await app.register(cookie)
  app.addHook('onRequest', async (_request, reply) => void reply.setCookie('a', '1'))
  app.addHook('preHandler', async (_request, reply) => reply.code(403).send({ code: 'MINE' }))
  app.get('/', { websocket: true }, () => t.fail('no connection'))
  const refused = await shake(t, await listen(app), '/')
  t.strictSame(
    [refused.status, codeOf(refused), headerOf(refused, 'set-cookie')],
    [403, 'MINE', 'a=1; SameSite=Lax']
  )
})
