import t, { type Test } from 'tap'
import { duration, makeApp, ms, Signal, tick } from '../helpers/app.js'
import { type Ended, run } from '../helpers/program.js'
import { closing } from '../socket/harness.js'

const REFUSED = 'FST_UPGRADE_INJECT_REFUSED'

t.test('open clients are closed with the application, immediately, and receive 1001', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, socket => {
    socket.send('ignored')
    socket.on('message', () => {})
  })
  const clients = await Promise.all(Array.from({ length: 10 }, () => app.injectWS()))
  const codes = Promise.all(clients.map(closing))
  t.ok((await duration(app.close())) < ms(1_000))
  t.strictSame(await codes, Array(10).fill('1001'))
  t.equal(app.websocketServer.clients.size, 0)
})

t.test('open clients are closed while the server listens, too', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, () => {})
  await app.listen({ port: 0, host: '127.0.0.1' })
  const closed = closing(await app.injectWS())
  t.ok((await duration(app.close())) < ms(1_000))
  t.equal(await closed, '1001')
})

t.test('a client that does not read is cut after closeTimeout', async t => {
  const { app } = await makeApp(t, { closeTimeout: 50 })
  app.get('/', { websocket: true }, () => {})
  const client = await app.injectWS()
  client.pause()
  t.ok((await duration(app.close())) < ms(2_000))
  client.resume()
  t.equal(await closing(client), '1001', 'it received the Close frame, too')
})

t.test('when the application closes, handshakes are refused, including pending ones', async t => {
  const { app } = await makeApp(t)
  const entered = new Signal()
  app.get('/', { websocket: true }, () => {})
  app.get('/slow', { websocket: true, onRequest: () => entered.fire() }, () => {})
  const slow = app.injectWS('/slow')
  const refusal = t.rejects(slow, { code: REFUSED, statusCode: 503, headers: { 'retry-after': '5' } })
  await entered.wait('request')
  await app.close()
  await refusal
  await t.rejects(app.injectWS(), { code: REFUSED, statusCode: 503 })
})

t.test('both sides can close and terminate', async t => {
  const { app } = await makeApp(t)
  const ends: string[] = []
  app.get('/', { websocket: true }, socket => {
    socket.on('close', (code, reason) => ends.push(`${code} ${reason}`.trimEnd()))
    socket.on('message', data => (String(data) === 'close' ? socket.close(4001, 'yes') : socket.terminate()))
  })
  const one = await app.injectWS()
  one.close(4000, 'by')
  t.equal(await closing(one), '4000 by')
  const two = await app.injectWS()
  two.send('close')
  t.equal(await closing(two), '4001 yes')
  const three = await app.injectWS()
  three.terminate()
  t.equal(await closing(three), '1006')
  const four = await app.injectWS()
  four.send('terminate')
  t.equal(await closing(four), '1006')
  await tick()
  t.strictSame(ends, ['4000 by', '4001 yes', '1006', '1006'])
  t.equal(app.websocketServer.clients.size, 0)
})

t.test('sent messages arrive before the end', async t => {
  const { app } = await makeApp(t)
  const got: string[] = []
  app.get('/', { websocket: true }, socket => {
    socket.on('message', data => got.push(String(data)))
    socket.on('close', code => got.push(String(code)))
  })
  const client = await app.injectWS()
  for (const word of ['a', 'b']) client.send(word)
  client.close(4000)
  const messages: unknown[] = []
  for await (const message of client) messages.push(message)
  t.equal(client.readyState, client.CLOSED)
  await tick()
  t.strictSame(got, ['a', 'b', '4000'])
})

t.test('onResponse runs at the end, and the request is finished', async t => {
  const { app } = await makeApp(t)
  const responded = new Signal<number>()
  app.addHook('onResponse', async (_request, reply) => responded.fire(reply.statusCode))
  app.get('/', { websocket: true }, () => {})
  const client = await app.injectWS()
  client.close()
  t.equal(await responded.wait('onResponse'), 101)
})

/** Runs a program with an application. */
async function runWithApp(t: Test, source: string): Promise<Ended> {
  const program = `
    import Fastify from 'fastify'
    import upgrade from 'fastify-upgrade'
    const app = Fastify()
    await app.register(upgrade, { handshakeTimeout: 100 })
    app.get('/', { websocket: true }, socket => socket.on('message', () => {}))
    app.get('/never', { websocket: true, onRequest: () => {} }, () => {})
    ${source}
  `
  return run(t, process.execPath, ['--input-type=module', '--eval', program])
}

t.test('an open client does not keep the process alive', async t => {
  const ended = await runWithApp(t, "await app.injectWS(); console.log('open')")
  t.strictSame(ended, { code: 0, stdout: 'open\n', stderr: '' })
})

t.test('a pending handshake keeps the process alive', async t => {
  const ended = await runWithApp(
    t,
    "await app.injectWS('/never').catch(error => console.log(error.statusCode))"
  )
  t.strictSame(ended, { code: 0, stdout: '503\n', stderr: '' })
})
