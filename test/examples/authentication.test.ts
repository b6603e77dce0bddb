import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t, { type Test } from 'tap'
import { WebSocket } from 'ws'
import { type OpenOptions, open, withDeadline } from '../helpers/app.js'
import { start } from '../helpers/program.js'
import { root } from '../helpers/root.js'
import { ms } from '../helpers/timeout.js'

const TOKEN = 'a-random-text-of-32-characters-or-more'
const PASSWORD = 'correct horse battery staple'
const ACCOUNT = { user: 'ada', password: PASSWORD }

const ports = new Map<string, Promise<number>>()

/** The port of an example that runs as documented. Tests with its default settings share it. */
function startExample(name: string, settings?: Record<string, string>): Promise<number> {
  // The lifetime of a token begins with the process.
  if (settings !== undefined) return run(name, settings)
  const port = ports.get(name) ?? run(name, {})
  ports.set(name, port)
  return port
}

async function run(name: string, settings: Record<string, string>): Promise<number> {
  const env = { ...process.env, PORT: '0', TOKEN, PASSWORD, SECRET: TOKEN, ...settings }
  const child = start(t, process.execPath, [join(root, 'dist', 'examples', 'authentication', `${name}.js`)], {
    env
  })
  child.stderr.pipe(process.stderr)
  const [line]: unknown[] = await withDeadline(once(createInterface(child.stdout), 'line'), 10_000, name)
  return Number(new URL(String(line)).port)
}

/** The response to a client of `ws` that is refused. */
async function refusal(t: Test, port: number, path: string, options: OpenOptions = {}) {
  const { protocols = [], ...rest } = options
  const client = new WebSocket(`ws://127.0.0.1:${port}${path}`, protocols, {
    ...rest,
    headers: { ...rest.headers }
  })
  t.teardown(() => client.terminate())
  client.on('error', () => {})
  client.on('open', () => t.fail('the client was accepted'))
  const [request, response] = await withDeadline(once(client, 'unexpected-response'), 10_000, 'refusal')
  let body = ''
  for await (const chunk of response) body += chunk
  request.destroy()
  return { status: response.statusCode, headers: response.headers, body: JSON.parse(body) }
}

const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` })

async function post(port: number, path: string, headers: Record<string, string>, body?: object) {
  const json = body === undefined ? {} : { 'content-type': 'application/json' }
  return fetch(`http://127.0.0.1:${port}${path}`, {
    method: 'POST',
    headers: { ...json, ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) })
  })
}

/** The offers of a client with a ticket. */
async function ticketIn(response: Response): Promise<string> {
  const body: unknown = await response.json()
  return `token.${Reflect.get(Object(body), 'ticket')}`
}

t.test('a client with a bearer token is accepted', async t => {
  const port = await startExample('bearer')
  for (const headers of [bearer(TOKEN), { authorization: `bearer ${TOKEN}` }]) {
    t.equal(await (await open(t, port, '/news', { headers })).next(), 'hello, robot')
  }
  for (const headers of [
    {},
    bearer(''),
    bearer('x'),
    bearer(`${TOKEN}x`),
    bearer(TOKEN.slice(1)),
    { authorization: `Basic ${TOKEN}` },
    { authorization: TOKEN }
  ]) {
    const { status, headers: answered, body } = await refusal(t, port, '/news', { headers })
    t.equal(status, 401, JSON.stringify(headers))
    t.equal(answered['www-authenticate'], 'Bearer')
    t.strictSame(body, { message: 'a valid token is needed' })
  }
  t.equal((await refusal(t, port, `/news?token=${TOKEN}`)).status, 401, 'not in the URL')
})

t.test('a connection ends when its token expires', async t => {
  const port = await startExample('bearer', { TOKEN_SECONDS: String(ms(2000) / 1000) })
  const client = await open(t, port, '/news', { headers: bearer(TOKEN) })
  t.equal(await client.closed(), '4401 expired')
  t.equal((await refusal(t, port, '/news', { headers: bearer(TOKEN) })).status, 401)
})

t.test('a ticket is accepted as a subprotocol', async t => {
  const port = await startExample('subprotocol')
  const fetchTicket = async (): Promise<string> => {
    const response = await post(port, '/ticket', bearer(TOKEN))
    t.equal(response.status, 200)
    return ticketIn(response)
  }
  t.equal((await post(port, '/ticket', bearer('x'))).status, 401)
  t.equal((await post(port, '/ticket', {})).status, 401)
  const ticket = await fetchTicket()
  t.match(ticket, /^token\.[\w-]{43}$/)
  const client = await open(t, port, '/chat', { protocols: ['chat.v1', ticket] })
  t.equal(await client.next(), 'hello, ada')
  t.equal(client.headers['sec-websocket-protocol'], 'chat.v1', 'the ticket is not sent back')
  const reversed = await open(t, port, '/chat', { protocols: [await fetchTicket(), 'chat.v1'] })
  t.equal(reversed.socket.protocol, 'chat.v1', 'in either order')

  for (const protocols of [
    ['chat.v1', ticket],
    ['chat.v1'],
    ['chat.v1', 'token.'],
    ['chat.v1', `token.${TOKEN}`]
  ]) {
    const { status, body } = await refusal(t, port, '/chat', { protocols })
    t.equal(status, 401, protocols.join(', '))
    t.strictSame(body, { message: 'a valid ticket is needed' })
  }
  const alone = await refusal(t, port, '/chat', { protocols: [await fetchTicket()] })
  t.equal(alone.status, 400)
  t.equal(alone.body.code, 'FST_UPGRADE_UNSUPPORTED_SUBPROTOCOL')
  const protocols = ['chat.v1', await fetchTicket()]
  t.equal((await refusal(t, port, '/chat', { protocols, origin: 'https://evil.example' })).status, 403)
  t.equal(await (await open(t, port, '/chat', { protocols })).next(), 'hello, ada', 'the ticket was not used')
})

t.test('the connection of a ticket ends when the access token expires', async t => {
  const port = await startExample('subprotocol', { TOKEN_SECONDS: String(ms(2000) / 1000) })
  const ticket = await ticketIn(await post(port, '/ticket', bearer(TOKEN)))
  const client = await open(t, port, '/chat', { protocols: ['chat.v1', ticket] })
  t.equal(await client.closed(), '4401 expired')
})

/** A new access token for a valid one, and the time before which it does not expire. */
async function refresh(port: number, lifetime: number): Promise<{ token: string; until: number }> {
  const until = Date.now() + lifetime
  const body: unknown = await (await post(port, '/token', bearer(TOKEN))).json()
  return { token: String(Reflect.get(Object(body), 'token')), until }
}

t.test('a new token renews a connection over the socket', async t => {
  const lifetime = ms(2000)
  const port = await startExample('refresh', { TOKEN_SECONDS: String(lifetime / 1000) })
  const client = await open(t, port, '/news', { headers: bearer(TOKEN) })
  t.equal(await client.next(), 'hello, ada')
  const { token, until } = await refresh(port, lifetime)
  client.socket.send(token)
  t.equal(await client.next(), 'renewed')
  t.equal(await client.closed(), '4401 expired')
  t.ok(Date.now() >= until, 'with the new token')
  t.equal((await refusal(t, port, '/news', { headers: bearer(token) })).status, 401)
})

t.test('a new token renews the connections of its user with an HTTP request', async t => {
  const lifetime = ms(2000)
  const port = await startExample('refresh', { TOKEN_SECONDS: String(lifetime / 1000) })
  const clients = await Promise.all([1, 2].map(() => open(t, port, '/news', { headers: bearer(TOKEN) })))
  const { token, until } = await refresh(port, lifetime)
  t.equal((await post(port, '/renew', bearer('x'))).status, 401)
  const response = await post(port, '/renew', bearer(token))
  t.strictSame(await response.json(), { connections: 2, isComplete: true })
  for (const client of clients) t.equal(await client.closed(), '4401 expired')
  t.ok(Date.now() >= until, 'with the new token')
})

t.test('a text that is no token renews nothing, and closes', async t => {
  const port = await startExample('refresh')
  const client = await open(t, port, '/news', { headers: bearer(TOKEN) })
  client.socket.send('x')
  t.equal(await client.closed(), '4401 not renewed')
})

async function signIn(t: Test, port: number, headers: Record<string, string> = {}): Promise<string> {
  const response = await post(port, '/sign-in', headers, ACCOUNT)
  t.strictSame(await response.json(), { user: 'ada' })
  return String(response.headers.get('set-cookie'))
}

const cookieOf = (setCookie: string): string => setCookie.split(';')[0] ?? ''

t.test('a handshake uses the session of the user', async t => {
  const port = await startExample('session', { CHECK_SECONDS: '0.05' })
  for (const body of [
    { ...ACCOUNT, password: 'wrong' },
    { ...ACCOUNT, user: 'eve' }
  ]) {
    t.equal((await post(port, '/sign-in', {}, body)).status, 401)
  }
  const setCookie = await signIn(t, port)
  t.match(setCookie, /; HttpOnly; SameSite=Lax$/)
  const cookie = cookieOf(setCookie)
  const client = await open(t, port, '/news', { headers: { cookie } })
  t.equal(await client.next(), 'hello, ada')
  t.match(client.headers['set-cookie'], [/^sessionId=/], 'the handshake extends the session')

  for (const bad of [{}, { cookie: 'sessionId=x' }, { cookie: `${cookie.slice(0, -3)}xyz` }]) {
    const { status, body } = await refusal(t, port, '/news', { headers: bad })
    t.equal(status, 401, JSON.stringify(bad))
    t.strictSame(body, { message: 'sign in first' })
  }
  const origin = 'https://evil.example'
  const foreign = await refusal(t, port, '/news', { headers: { cookie }, origin })
  t.equal(foreign.status, 403, 'a page of another site, with the cookies of the user')
  t.equal(foreign.body.code, 'FST_UPGRADE_FORBIDDEN_ORIGIN')
  const own = await open(t, port, '/news', { headers: { cookie }, origin: `http://127.0.0.1:${port}` })
  t.equal(await own.next(), 'hello, ada')

  t.equal((await post(port, '/sign-out', { cookie })).status, 204)
  t.equal(await client.closed(), '4401 signed out')
  t.equal(await own.closed(), '4401 signed out')
  t.equal((await refusal(t, port, '/news', { headers: { cookie } })).status, 401)
})

t.test('signing in starts a new session', async t => {
  const port = await startExample('session')
  const planted = cookieOf(await signIn(t, port))
  const cookie = cookieOf(await signIn(t, port, { cookie: planted }))
  t.not(cookie, planted)
  t.equal((await refusal(t, port, '/news', { headers: { cookie: planted } })).status, 401)
  t.equal(await (await open(t, port, '/news', { headers: { cookie } })).next(), 'hello, ada')
})

t.test('over HTTPS, as the proxy reports, the cookie is Secure', async t => {
  const port = await startExample('session')
  t.match(await signIn(t, port, { 'x-forwarded-proto': 'https' }), /; Secure/)
})

t.test('a connection ends with its session', async t => {
  const port = await startExample('session', {
    SESSION_SECONDS: String(ms(2000) / 1000),
    CHECK_SECONDS: '0.05'
  })
  const cookie = cookieOf(await signIn(t, port))
  const client = await open(t, port, '/news', { headers: { cookie } })
  t.equal(await client.closed(), '4401 signed out')
})

t.test('docs/guides/authentication.md contains the files unchanged', async t => {
  const page = readFileSync(join(root, 'docs', 'guides', 'authentication.md'), 'utf8')
  const blocks = Array.from(page.matchAll(/^```ts\n([\s\S]*?)^```$/gm), ([, code]) => code)
  const names = ['session', 'tokens', 'bearer', 'subprotocol', 'refresh']
  const files = names.map(name =>
    readFileSync(join(root, 'examples', 'authentication', `${name}.ts`), 'utf8')
  )
  t.strictSame(blocks, files)
})
