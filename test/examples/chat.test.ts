import { once } from 'node:events'
import t from 'tap'
import { buildChat } from '../../examples/chat/server.js'
import {
  type Client,
  connectRaw,
  handshake,
  headerOf,
  listen,
  open,
  PAGE_ACCEPT,
  PAGE_HANDSHAKE,
  request,
  shake,
  withDeadline
} from '../helpers/app.js'
import { startChat } from './chat.js'

/** A client of chat.v1 with a token, which identifies a person. */
const person = (letter: string) => ({ protocols: ['chat.v1', `token.${letter.repeat(32)}`] })

/** Ends the connection of a client, and waits until its room was notified. */
async function depart(client: Client, witness: Client, line: string): Promise<void> {
  client.socket.terminate()
  while ((await witness.next()) !== line);
}

const V1 = { protocols: ['chat.v1'] }
const V2 = { protocols: ['chat.v2'] }
const say = (text: string): string => JSON.stringify({ type: 'message', text })

t.test('chat.v1 uses text and chat.v2 JSON, in the same rooms', async t => {
  const { port } = await startChat(t)
  const ada = await open(t, port, '/rooms/lobby?name=Ada', V2)
  const welcome = JSON.parse(await ada.next())
  const { epoch } = welcome
  t.strictSame(welcome, {
    type: 'welcome',
    name: 'Ada',
    returning: false,
    recovered: false,
    offset: 0,
    epoch
  })
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
  const message = JSON.parse(await ada.next())
  t.match(message, { type: 'message', name: 'Ada', text: 'hello, Bob', offset: 1, epoch })
  t.match(message.id, /^[0-9a-f-]{36}$/)
  t.ok(Math.abs(message.time - Date.now()) < 600_000, 'the time is in milliseconds since 1970')
  bob.socket.send('hello\nEve: forged')
  t.equal(await bob.next(), 'Bob: hello Eve: forged', 'on one line')
  t.equal(JSON.parse(await ada.next()).text, 'hello Eve: forged')

  const second = await open(t, port, '/rooms/lobby?name=Bob', V1)
  t.equal(await second.next(), '* welcome, Bob 2', 'a name is used once')
  t.equal(JSON.parse(await ada.next()).name, 'Bob 2')
  second.socket.terminate()
  t.strictSame(JSON.parse(await ada.next()), { type: 'leave', name: 'Bob 2', names: ['Ada', 'Bob'] })
  t.strictSame(elsewhere.messages, [], 'other rooms are not notified')
})

/** Speaks in a room until all messages were delivered. */
async function speak(speaker: Client, texts: readonly string[]): Promise<void> {
  for (const text of texts) {
    speaker.socket.send(say(text))
    while (eventOf(await speaker.next()).text !== text);
  }
}

/** An event of chat.v2. */
function eventOf(message: string): Readonly<Record<string, unknown>> {
  return JSON.parse(message)
}

const numbered = (from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, index) => `message ${from + index}`)

t.test('a client that joins a room gets its last 50 messages', async t => {
  const { port } = await startChat(t)
  const ada = await open(t, port, '/rooms/lobby?name=Ada', V2)
  const before = await open(t, port, '/rooms/lobby?name=Bob', V2)
  t.match(eventOf(await before.next()), { type: 'welcome', offset: 0 }, 'none')
  await speak(ada, numbered(1, 60))
  const bob = await open(t, port, '/rooms/lobby?name=Bob', V2)
  for (let n = 11; n <= 60; n++) {
    t.match(eventOf(await bob.next()), { type: 'message', name: 'Ada', text: `message ${n}`, offset: n })
  }
  t.match(eventOf(await bob.next()), { type: 'welcome', recovered: false, offset: 60 })
  const plain = await open(t, port, '/rooms/lobby?name=Eve', V1)
  t.equal(await plain.next(), '* welcome, Eve', 'chat.v1 gets new messages only')
  const elsewhere = await open(t, port, '/rooms/kitchen?name=Bob', V2)
  t.match(eventOf(await elsewhere.next()), { type: 'welcome', offset: 0 }, 'each room has its own')
})

t.test('a client that connects again gets what it has missed, and then the messages that follow', async t => {
  const { port } = await startChat(t)
  const ada = await open(t, port, '/rooms/lobby?name=Ada', V2)
  const bob = await open(t, port, '/rooms/lobby?name=Bob', V2)
  const { epoch } = eventOf(await bob.next())
  const again = (offset: number) => open(t, port, `/rooms/lobby?name=Bob&offset=${offset}&epoch=${epoch}`, V2)
  bob.socket.terminate()
  await speak(ada, numbered(1, 3))
  const missed = await again(0)
  for (const n of [1, 2, 3]) t.match(eventOf(await missed.next()), { text: `message ${n}`, offset: n, epoch })
  t.match(eventOf(await missed.next()), { type: 'welcome', recovered: true, offset: 3, epoch })
  t.match(eventOf(await missed.next()), { type: 'join' })
  await speak(ada, numbered(4, 4))
  t.match(eventOf(await missed.next()), { text: 'message 4', offset: 4, epoch })

  const nothing = await again(4)
  t.match(eventOf(await nothing.next()), { type: 'welcome', recovered: true, offset: 4, epoch })
})

t.test(
  'a client that has missed more than the room keeps is not recovered, and gets the last messages',
  async t => {
    const { port } = await startChat(t)
    const ada = await open(t, port, '/rooms/lobby?name=Ada', V2)
    const { epoch } = eventOf(await ada.next())
    await speak(ada, numbered(1, 52))
    for (const [position, recovered, first] of [
      [`offset=2&epoch=${epoch}`, true, 3],
      [`offset=1&epoch=${epoch}`, false, 3],
      ['offset=52&epoch=another', false, 3],
      [`offset=99&epoch=${epoch}`, false, 3]
    ] as const) {
      const client = await open(t, port, `/rooms/lobby?name=Bob&${position}`, V2)
      for (let offset = first; offset <= 52; offset++)
        t.match(eventOf(await client.next()), { offset, epoch })
      t.match(eventOf(await client.next()), { type: 'welcome', recovered, offset: 52, epoch }, position)
      t.match(eventOf(await client.next()), { type: 'join' })
      client.socket.terminate()
    }
  }
)

t.test('messages that are sent while a client joins arrive once and in order', async t => {
  const { port } = await startChat(t)
  const ada = await open(t, port, '/rooms/lobby?name=Ada', V2)
  const { epoch } = eventOf(await ada.next())
  const texts = numbered(1, 40)
  const spoken = speak(ada, texts)
  for (let n = 0; n < 10; n++) {
    const path = `/rooms/lobby?name=Bob${n % 2 === 0 ? '' : `&offset=0&epoch=${epoch}`}`
    const bob = await open(t, port, path, V2)
    const got: unknown[] = []
    while (got.length < texts.length) {
      const event = eventOf(await bob.next())
      if (event.type === 'message') got.push(event.text)
    }
    t.strictSame(got, texts)
  }
  await spoken
})

t.test('a hook sets a cookie on the 101, and recognizes returning clients', async t => {
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

t.test('a name is reserved for its token', async t => {
  const { port } = await startChat(t)
  const witness = await open(t, port, '/rooms/lobby?name=Ada', V1)
  const first = await open(t, port, '/rooms/lobby?name=Bob', person('a'))
  t.equal(await first.next(), '* welcome, Bob')
  const second = await open(t, port, '/rooms/lobby?name=Bob', person('b'))
  t.equal(await second.next(), '* welcome, Bob 2')
  t.equal(second.socket.protocol, 'chat.v1', 'the token is not sent back')
  await depart(first, witness, '* Bob left, here: Ada, Bob 2')
  await depart(second, witness, '* Bob 2 left, here: Ada')

  const stranger = await open(t, port, '/rooms/lobby?name=Bob', V1)
  t.equal(await stranger.next(), '* welcome, Bob 3', 'both names are reserved')
  const elsewhere = await open(t, port, '/rooms/kitchen?name=Bob', V1)
  t.equal(await elsewhere.next(), '* welcome, Bob', 'in their room')
  // In the other order, with the requested name, and with the assigned one.
  for (const [letter, wanted, name] of [
    ['b', 'Bob', 'Bob 2'],
    ['a', 'Bob', 'Bob'],
    ['c', 'Bob', 'Bob 4'],
    ['d', 'Bob 2', 'Bob 5'],
    ['e', 'B'.repeat(24), 'B'.repeat(24)],
    ['f', 'B'.repeat(24), `${'B'.repeat(22)} 2`]
  ] as const) {
    const client = await open(t, port, `/rooms/lobby?name=${wanted}`, person(letter))
    t.equal(await client.next(), `* welcome, ${name}`, `${letter} as ${wanted}`)
  }
})

t.test('a name without a token is free after its client has left', async t => {
  const { port } = await startChat(t)
  const witness = await open(t, port, '/rooms/lobby?name=Ada', V1)
  const first = await open(t, port, '/rooms/lobby?name=Bob', V1)
  t.equal(await first.next(), '* welcome, Bob')
  await depart(first, witness, '* Bob left, here: Ada')
  for (const offers of [['chat.v1', 'token.short'], ['token.a', 'chat.v1'], ['chat.v1']]) {
    const client = await open(t, port, '/rooms/lobby?name=Bob', { protocols: offers })
    t.equal(await client.next(), '* welcome, Bob')
    await depart(client, witness, '* Bob left, here: Ada')
  }
})

t.test('two connections with one token are one person', async t => {
  const { port } = await startChat(t)
  const witness = await open(t, port, '/rooms/lobby?name=Ada', V1)
  t.equal(await witness.next(), '* welcome, Ada')
  t.equal(await witness.next(), '* Ada joined, here: Ada')
  const old = await open(t, port, '/rooms/lobby?name=Bob', person('a'))
  t.equal(await old.next(), '* welcome, Bob')
  t.equal(await old.next(), '* Bob joined, here: Ada, Bob')
  t.equal(await witness.next(), '* Bob joined, here: Ada, Bob')
  const reloaded = await open(t, port, '/rooms/lobby?name=Bob', person('a'))
  t.equal(await reloaded.next(), '* welcome, Bob')
  t.equal(await reloaded.next(), '* Bob joined, here: Ada, Bob')
  old.socket.terminate()
  await once(old.socket, 'close')
  reloaded.socket.send('I am still here')
  t.equal(await witness.next(), 'Bob: I am still here', 'without a join or leave event')
  await depart(reloaded, witness, '* Bob left, here: Ada')
})

t.test('a name is not reserved forever', async t => {
  const app = await buildChat()
  t.teardown(() => app.close())
  const welcome = async (subprotocols: string[]) => {
    const client = await app.injectWS('/rooms/lobby?name=Bob', { subprotocols })
    const [data]: unknown[] = await once(client, 'message')
    client.close()
    await once(client, 'close')
    return String(data)
  }
  const { protocols } = person('a')
  t.equal(await welcome(protocols), '* welcome, Bob')
  t.equal(await welcome(['chat.v1']), '* welcome, Bob 2')
  t.equal(await welcome(protocols), '* welcome, Bob')
  const now = Date.now()
  t.intercept(Date, 'now', { value: () => now + 150_000 })
  t.equal(await welcome(['chat.v1']), '* welcome, Bob')
})

t.test('invalid input is refused', async t => {
  const { port } = await startChat(t)
  const offer = { 'Sec-WebSocket-Protocol': 'chat.v2' }
  for (const [path, fields, status] of [
    ['/rooms/lobby', offer, 400],
    ['/rooms/lobby?name=', offer, 400],
    ['/rooms/lobby?name=*', offer, 400],
    [`/rooms/lobby?name=${'B'.repeat(25)}`, offer, 400],
    ['/rooms/lobby?name=Ada&offset=1', offer, 400],
    ['/rooms/lobby?name=Ada&epoch=x', offer, 400],
    ['/rooms/lobby?name=Ada&offset=-1&epoch=x', offer, 400],
    ['/rooms/lobby?name=Ada&offset=1.5&epoch=x', offer, 400],
    ['/rooms/lobby?name=Ada&offset=9007199254740992&epoch=x', offer, 400],
    [`/rooms/lobby?name=Ada&offset=1&epoch=${'x'.repeat(101)}`, offer, 400],
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

t.test('the server serves the page, and checks the origin of handshakes', async t => {
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
  t.test(`${signal} stops the server, with clients and without waiting for silent ones`, async t => {
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

t.test('with a password there is a console for operators', async t => {
  process.env.CONSOLE_PASSWORD = 'secret:1'
  t.teardown(() => delete process.env.CONSOLE_PASSWORD)
  const app = await buildChat()
  t.teardown(() => app.close())
  const port = await listen(app)
  const authorization = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`
  for (const wrong of ['', 'me:', 'me:secret', 'secret:1:']) {
    const headers = { Authorization: authorization(wrong) }
    t.equal((await shake(t, port, '/console/socket', headers)).status, 401, wrong)
  }
  t.equal((await app.inject('/console')).headers['www-authenticate'], 'Basic realm="console"')
  const page = await open(t, port, '/console/socket', {
    headers: { authorization: authorization('me:secret:1') }
  })
  t.match(JSON.parse(await page.next()), { type: 'summary', processes: [{ connections: 1 }] })
})

t.test('without one there is none', async t => {
  const app = await buildChat()
  t.teardown(() => app.close())
  t.equal((await app.inject('/console')).statusCode, 404)
})
