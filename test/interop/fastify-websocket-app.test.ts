import { once } from 'node:events'
import t, { type Test } from 'tap'
import { bareApp, listen, open, request, shake, withDeadline } from '../helpers/app.js'
import { makeApplication, type WebSocketPlugin } from './fixtures/application.js'
import { PACKAGES } from './packages.js'

async function start(t: Test, plugin: WebSocketPlugin) {
  const { app } = bareApp(t)
  const seen = await makeApplication(app, plugin)
  return { app, seen, port: await listen(app) }
}

for (const [name, plugin] of PACKAGES) {
  t.test(`the application works on ${name}`, async t => {
    const { app, seen, port } = await start(t, plugin)

    await t.test('echo works in its scope', async t => {
      const client = await open(t, port, '/echo')
      t.equal(await client.next(), 'welcome from the scope of echo, true')
      for (const text of ['one', 'two', '']) {
        client.socket.send(text)
        t.equal(await client.next(), text)
      }
      const bytes = Buffer.alloc(65_536, Buffer.from([0, 255, 128]))
      const back = once(client.socket, 'message')
      client.socket.send(bytes)
      const [data, isBinary] = await withDeadline(back, 10_000, 'message')
      t.strictSame([bytes.equals(data), isBinary], [true, true])
      client.socket.send(Buffer.alloc(65_537))
      t.match(await client.closed(), /^1009/)
      t.ok(seen.events.includes('connection /echo'))
    })

    await t.test('the wildcard matches paths without another route', async t => {
      for (const [path, answer] of [
        ['/wild/', 'this path'],
        ['/wild/a/b', 'any path']
      ] as const) {
        const client = await open(t, port, path)
        client.socket.send('')
        t.equal(await client.next(), answer)
      }
    })

    await t.test('work that takes time keeps its messages', async t => {
      const client = await open(t, port, '/late', { headers: { 'x-user': 'ada' } })
      for (const text of ['one', 'two']) client.socket.send(text)
      t.strictSame([await client.next(), await client.next()], ['ada says one', 'ada says two'])
    })

    for (const hook of ['onRequest', 'preValidation', 'preHandler']) {
      await t.test(`${hook} decides which clients are accepted`, async t => {
        const refused = await shake(t, port, `/private/${hook}`)
        t.strictSame([refused.status, JSON.parse(refused.body)], [401, { refusedBy: hook }])
        const client = await open(t, port, `/private/${hook}`, { headers: { 'x-user': 'ada' } })
        t.equal(await client.next(), 'let in')
      })
    }

    await t.test('verifyClient decides which clients are accepted, too', async t => {
      t.equal((await shake(t, port, '/echo', { 'X-Banned': '1' })).status, 401)
    })

    await t.test('one URL serves pages and connections', async t => {
      const page = await request(t, port, 'GET', '/both')
      t.strictSame([page.status, JSON.parse(page.body)], [200, { page: true, ws: false }])
      const client = await open(t, port, '/both')
      t.equal(await client.next(), 'first')
      client.socket.send('')
      t.equal(await client.closed(), '4000 thank you')
    })

    await t.test('a path without a route gets 404', async t => {
      t.equal((await shake(t, port, '/nowhere')).status, 404)
      t.equal((await request(t, port, 'GET', '/nowhere')).status, 404)
    })

    await t.test('the error handler receives errors that handlers throw and reject with', async t => {
      for (const path of ['/throws', '/rejects']) {
        const client = await open(t, port, path)
        t.equal(await client.closed(), '1006', 'it terminates')
      }
      const ours = seen.errors.filter(error => /throws|rejects/.test(error))
      t.strictSame(ours, ['/throws thrown', '/rejects rejected'])
    })

    await t.test('createWebSocketStream of ws works', async t => {
      const client = await open(t, port, '/stream')
      t.equal(await client.next(), 'hello')
      for (const text of ['one', 'two']) {
        client.socket.send(text)
        t.equal(await client.next(), `${text}!`)
      }
      client.socket.close(1000)
      t.equal(await client.closed(), '1000')
    })

    await t.test('rooms and heartbeats work', async t => {
      const one = await open(t, port, '/room')
      const two = await open(t, port, '/room')
      one.socket.send('hello')
      t.equal(await two.next(), 'ada: hello')
      two.socket.send('ping me')
      t.equal(await two.next(), 'alive')
      t.equal(await one.next(), 'ada: ping me')
    })

    await t.test('preClose sends its close code', async t => {
      const client = await open(t, port, '/room')
      await withDeadline(app.close(), 10_000, 'app.close()')
      t.equal(await client.closed(), '1001 we close for today')
      t.equal(seen.events.at(-1), 'preClose')
    })
  })
}
