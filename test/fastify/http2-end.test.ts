import { once } from 'node:events'
import type { FastifyInstance } from 'fastify'
import t from 'tap'
import { close, listen, Signal, text, watchProcess, withDeadline } from '../helpers/app.js'
import { CANCEL, type Http2Client, makeHttp2App, NO_ERROR, Session } from '../helpers/http2.js'

/** Sends back each message, and notes how each connection ends. */
function echo(app: FastifyInstance): { readonly ends: number[]; until(count: number): Promise<void> } {
  const ends: number[] = []
  let news = new Signal()
  app.get('/echo', { websocket: true }, socket => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
    socket.on('close', code => {
      ends.push(code)
      news.fire()
    })
  })
  const until = async (count: number): Promise<void> => {
    while (ends.length < count) {
      await news.wait('close')
      news = new Signal()
    }
  }
  return { ends, until }
}

/** Whether a WebSocket still works. */
async function answers(client: Http2Client, word: string): Promise<boolean> {
  client.write(text(word))
  return (await client.text()) === word
}

t.test('RFC 8441 section 5: the end of the stream is the end of TCP, and a reset of it a reset', async t => {
  const uncaught = watchProcess(t)
  const { app } = await makeHttp2App(t)
  const { ends, until } = echo(app)
  const session = await Session.open(t, await listen(app), { host: '127.0.0.1' })
  const neighbour = await session.open('/echo')
  const ended = await session.open('/echo')
  ended.stream.end()
  t.equal(await ended.reset(), NO_ERROR)
  await until(1)
  const reset = await session.open('/echo')
  reset.stream.close(CANCEL)
  await until(2)
  const quiet = await session.open('/echo')
  quiet.stream.close(NO_ERROR)
  await until(3)
  const bad = await session.open('/echo')
  bad.write('GET / HTTP/1.1\r\n')
  t.equal((await bad.frame()).opcode, 8, 'a protocol error')
  await bad.until(() => bad.ended, 'end')
  bad.stream.end()
  await until(4)
  t.strictSame(ends, [1006, 1006, 1006, 1006])
  t.ok(await answers(neighbour, 'a'), 'the neighbour does not notice')
  t.strictSame(uncaught, [])
})

t.test('RFC 8441 section 5: terminate resets the stream with CANCEL, and nothing else', async t => {
  const { app } = await makeHttp2App(t)
  const { ends } = echo(app)
  app.get('/cut', { websocket: true }, socket => {
    socket.send('first')
    socket.on('message', () => socket.terminate())
  })
  const session = await Session.open(t, await listen(app), { host: '127.0.0.1' })
  const neighbour = await session.open('/echo')
  const client = await session.open('/cut')
  t.equal(await client.text(), 'first')
  client.write(text('now'))
  t.equal(await client.reset(), CANCEL)
  t.ok(await answers(neighbour, 'a'))
  t.strictSame(ends, [])
})

t.test('a lost session and a GOAWAY with an error end all its WebSockets with 1006', async t => {
  const uncaught = watchProcess(t)
  const { app } = await makeHttp2App(t)
  const { ends, until } = echo(app)
  const port = await listen(app)
  for (const lose of ['socket', 'goaway', 'destroy'] as const) {
    const other = await Session.open(t, port, { host: '127.0.0.1' })
    const neighbour = await other.open('/echo')
    const session = await Session.open(t, port, { host: '127.0.0.1' })
    for (const _ of 'abc') await session.open('/echo')
    if (lose === 'socket') session.socket.destroy()
    else if (lose === 'goaway') session.session.goaway(2)
    else session.session.destroy()
    await until(3)
    t.strictSame(ends.splice(0), [1006, 1006, 1006], lose)
    t.ok(await answers(neighbour, lose), 'other sessions do not notice')
    neighbour.stream.close(CANCEL)
    await until(1)
    ends.splice(0)
  }
  t.strictSame(uncaught, [])
})

t.test('RFC 9113 section 6.8: after a GOAWAY without an error open WebSockets continue', async t => {
  const { app } = await makeHttp2App(t)
  const { ends, until } = echo(app)
  const session = await Session.open(t, await listen(app), { host: '127.0.0.1' })
  const client = await session.open('/echo')
  session.session.goaway(NO_ERROR)
  t.ok(await answers(client, 'a'))
  client.write(close(1000))
  client.stream.end()
  await until(1)
  t.strictSame(ends, [1000])
})

t.test('http2SessionTimeout: open WebSockets continue', async t => {
  const { app } = await makeHttp2App(t, {}, { server: { http2SessionTimeout: 50 } })
  echo(app)
  const session = await Session.open(t, await listen(app), { host: '127.0.0.1' })
  const client = await session.open('/echo')
  await withDeadline(once(session.session, 'goaway'), 10_000, 'goaway')
  t.ok(await answers(client, 'a'))
})

t.test('app.close() closes the WebSockets with 1001 and ends their sessions', async t => {
  const uncaught = watchProcess(t)
  const { app } = await makeHttp2App(t, {}, { server: { forceCloseConnections: false } })
  const { ends } = echo(app)
  const port = await listen(app)
  const session = await Session.open(t, port, { host: '127.0.0.1' })
  const idle = await Session.open(t, port, { host: '127.0.0.1' })
  const refused = idle.connect('/none')
  t.equal(await refused.status(), 404)
  const client = await session.open('/echo')
  const closed = app.close()
  const { opcode, payload } = await client.frame()
  t.strictSame([opcode, payload.readUInt16BE(0)], [8, 1001])
  const late = session.connect('/echo')
  t.equal(await late.status(), 503)
  t.equal(late.headers['retry-after'], '5')
  client.write(close(1001))
  client.stream.end()
  await withDeadline(closed, 10_000, 'close')
  await session.closed()
  await idle.closed()
  t.strictSame(ends, [1001])
  t.strictSame(uncaught, [])
})

t.test('app.close() cuts peers that do not close, and their sessions end', async t => {
  const { app } = await makeHttp2App(t, { shutdown: { timeout: 50 } })
  const { ends } = echo(app)
  const session = await Session.open(t, await listen(app), { host: '127.0.0.1' })
  const client = await session.open('/echo')
  await withDeadline(app.close(), 10_000, 'close')
  t.equal(await client.reset(), CANCEL)
  await session.closed()
  t.strictSame(ends, [1006])
})

t.test('a session whose first handshake comes when the others have ended is ended too', async t => {
  const { app } = await makeHttp2App(t)
  echo(app)
  const released = new Signal()
  app.addHook('preClose', () => released.promise)
  const port = await listen(app)
  const session = await Session.open(t, port, { host: '127.0.0.1' })
  const idle = await Session.open(t, port, { host: '127.0.0.1' })
  const client = await session.open('/echo')
  const closed = app.close()
  await client.frame()
  client.write(close(1001))
  client.stream.end()
  await session.closed()
  const late = idle.connect('/echo')
  t.equal(await late.status(), 503)
  await idle.closed()
  released.fire()
  await withDeadline(closed, 10_000, 'close')
})
