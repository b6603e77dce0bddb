import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import {
  connectRaw,
  handshake,
  headerOf,
  open,
  PAGE_ACCEPT,
  PAGE_HANDSHAKE,
  request,
  shake,
  withDeadline
} from '../helpers/app.js'
import { browserSkip, launchBrowser } from '../helpers/browser.js'

const SERVER = join(import.meta.dirname, '..', '..', 'dist', 'examples', 'chat', 'server.js')

interface Chat {
  readonly port: number
  readonly process: ChildProcess
}

/** The example as `npm start` runs it. */
async function startChat(t: Test): Promise<Chat> {
  const env = { ...process.env, PORT: '0', HOST: '127.0.0.1' }
  const child = spawn(process.execPath, [SERVER], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const [line]: unknown[] = await withDeadline(once(createInterface(child.stdout), 'line'), 10_000, 'start')
  const [, port] = /^Chat on http:\/\/127\.0\.0\.1:(\d+) /.exec(String(line)) ?? []
  t.ok(port, String(line))
  return { port: Number(port), process: child }
}

const V1 = { protocols: ['chat.v1'] }
const V2 = { protocols: ['chat.v2'] }
const say = (text: string): string => JSON.stringify({ type: 'message', text })

t.test('chat.v1 speaks text and chat.v2 JSON, in the same rooms', async t => {
  const { port } = await startChat(t)
  const ada = await open(t, port, '/rooms/lobby?name=Ada', V2)
  t.strictSame(JSON.parse(await ada.next()), { type: 'welcome', name: 'Ada', returning: false })
  t.strictSame(JSON.parse(await ada.next()), { type: 'join', name: 'Ada', names: ['Ada'] })
  const bob = await open(t, port, '/rooms/lobby?name=Bob', V1)
  t.equal(await bob.next(), '* welcome, Bob')
  t.equal(await bob.next(), '* Bob joined, here: Ada, Bob')
  t.strictSame(JSON.parse(await ada.next()), { type: 'join', name: 'Bob', names: ['Ada', 'Bob'] })
  const elsewhere = await open(t, port, '/rooms/kitchen?name=Eve', V1)
  t.equal(await elsewhere.next(), '* welcome, Eve')
  t.equal(await elsewhere.next(), '* Eve joined, here: Eve')

  ada.socket.send(say('hello, Bob'))
  t.equal(await bob.next(), 'Ada: hello, Bob')
  t.strictSame(JSON.parse(await ada.next()), { type: 'message', name: 'Ada', text: 'hello, Bob' })
  bob.socket.send('hello\nEve: forged')
  t.equal(await bob.next(), 'Bob: hello Eve: forged', 'on one line')
  t.equal(JSON.parse(await ada.next()).text, 'hello Eve: forged')

  const second = await open(t, port, '/rooms/lobby?name=Bob', V1)
  t.equal(await second.next(), '* welcome, Bob 2', 'a name is taken once')
  t.equal(JSON.parse(await ada.next()).name, 'Bob 2')
  second.socket.terminate()
  t.strictSame(JSON.parse(await ada.next()), { type: 'leave', name: 'Bob 2', names: ['Ada', 'Bob'] })
  t.strictSame(elsewhere.messages, [], 'other rooms hear nothing')
})

t.test('a hook sets a cookie on the 101, and knows who comes back', async t => {
  const { port } = await startChat(t)
  const first = await open(t, port, '/rooms/lobby?name=Ada', V1)
  const cookie = String(first.headers['set-cookie'])
  t.match(cookie, /^visitor=[0-9a-f-]{36}; Path=\/rooms; .*HttpOnly; SameSite=Strict$/)
  t.equal(await first.next(), '* welcome, Ada')
  const headers = { cookie: cookie.split(';')[0] ?? '' }
  const again = await open(t, port, '/rooms/lobby?name=Bob', { ...V1, headers })
  t.equal(await again.next(), '* welcome back, Bob')
  t.equal(String(again.headers['set-cookie']), cookie)
})

t.test('what the server does not take', async t => {
  const { port } = await startChat(t)
  const offer = { 'Sec-WebSocket-Protocol': 'chat.v2' }
  for (const [path, fields, status] of [
    ['/rooms/lobby', offer, 400],
    ['/rooms/lobby?name=', offer, 400],
    ['/rooms/lobby?name=*', offer, 400],
    ['/rooms/No%20Room?name=Ada', offer, 400],
    ['/rooms/lobby?name=Ada', { 'Sec-WebSocket-Protocol': 'chat.v3' }, 400],
    ['/rooms/lobby?name=Ada', {}, 400],
    ['/rooms/lobby?name=Ada', { ...offer, Origin: 'http://evil.test' }, 403],
    ['/nowhere', offer, 404]
  ] as const) {
    t.equal((await shake(t, port, path, fields)).status, status, `${path} ${JSON.stringify(fields)}`)
  }
  for (const [protocols, data, closing] of [
    [V1, Buffer.from('x'), '1003 text only'],
    [V2, Buffer.from('x'), '1003 text only'],
    [V2, 'no JSON', '1007 not JSON'],
    [V2, '"text"', '1008 expected { "type": "message", "text": "…" }'],
    [V2, '{"type":"message","text":1}', '1008 expected { "type": "message", "text": "…" }'],
    [V1, 'x'.repeat(4097), '1009 message too big']
  ] as const) {
    const client = await open(t, port, '/rooms/lobby?name=Ada', protocols)
    client.socket.send(data)
    t.equal(await client.closed(), closing)
  }
})

t.test('the page, and the handshake of a page of another origin', async t => {
  const { port } = await startChat(t)
  for (const path of ['/', '/rooms/lobby']) {
    const response = await request(t, port, 'GET', path)
    t.equal(response.status, 200)
    t.equal(headerOf(response, 'content-type'), 'text/html; charset=utf-8')
  }
  const client = await connectRaw(t, port)
  client.write(PAGE_HANDSHAKE)
  const { status, headers } = await client.response()
  t.equal(status, 101)
  t.strictSame(headers.get('sec-websocket-accept'), [PAGE_ACCEPT])
  t.equal((await shake(t, port, '/chatsocket', { Origin: 'http://evil.test' })).status, 403)
})

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  t.test(`${signal} stops it, with clients and without waiting for silent ones`, async t => {
    const chat = await startChat(t)
    const client = await open(t, chat.port, '/rooms/lobby?name=Ada', V1)
    const silent = await connectRaw(t, chat.port)
    silent.write(handshake('/chatsocket'))
    t.equal((await silent.response()).status, 101)
    const exited = once(chat.process, 'exit')
    chat.process.kill(signal)
    t.equal(await client.closed(), '1001 the server is stopping')
    t.strictSame(await withDeadline(exited, 10_000, 'exit'), [0, null])
  })
}

t.test('two pages in Chromium', { skip: browserSkip }, async t => {
  const { port } = await startChat(t)
  const browser = await launchBrowser(t)
  const problems: string[] = []
  const enter = async (name: string, protocol: string): Promise<Page> => {
    const page = await (await browser.newContext()).newPage()
    page.on('pageerror', error => problems.push(error.message))
    page.on('console', message => message.type() === 'error' && problems.push(message.text()))
    await page.goto(`http://127.0.0.1:${port}/rooms/test-room`)
    await page.getByLabel('Name').fill(name)
    await page.getByLabel('Protocol').selectOption(protocol)
    await page.getByRole('button', { name: 'Join' }).click()
    await page.getByText(`connected, ${protocol}`).waitFor()
    return page
  }
  const speak = async (page: Page, text: string): Promise<void> => {
    await page.getByLabel('Message', { exact: true }).fill(text)
    await page.getByRole('button', { name: 'Send' }).click()
  }
  const ada = await enter('Ada', 'chat.v2')
  const bob = await enter('Bob', 'chat.v1')
  await ada.getByText('Bob joined').waitFor()
  await speak(ada, 'Hello <b>Bob</b>!')
  await bob.getByText('Hello <b>Bob</b>!').waitFor()
  await speak(bob, 'Grüß dich, Ada 🐎')
  await ada.getByText('Grüß dich, Ada 🐎').waitFor()
  for (const page of [ada, bob]) {
    t.strictSame(await page.locator('#members li').allTextContents(), ['Ada', 'Bob'])
    t.equal(await page.locator('#log b').count(), 2, 'what people write is no HTML')
  }
  const { SCREENSHOTS } = process.env
  if (SCREENSHOTS) await ada.screenshot({ path: join(SCREENSHOTS, 'chat.png') })
  await bob.getByRole('button', { name: 'Leave' }).click()
  await ada.getByText('Bob left').waitFor()
  await bob.getByText('Join a room').waitFor()
  await bob.getByRole('button', { name: 'Join' }).click()
  await bob.getByText('Welcome back, Bob').waitFor()
  t.strictSame(problems, [])
})
