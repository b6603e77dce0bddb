import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { close, listen, makeApp, open, text, withDeadline } from '../helpers/app.js'
import { haproxySkip, startHaproxy } from '../helpers/haproxy.js'
import { CANCEL, makeHttp2App, Session } from '../helpers/http2.js'

// HAProxy speaks RFC 8441 on both sides, and translates between the versions of HTTP.

/** Sends the version of HTTP and the address of the client, then sends back each message. */
function echo(app: FastifyInstance): readonly number[] {
  const ends: number[] = []
  app.get('/echo', { websocket: true }, (socket, request) => {
    socket.send(`${request.raw.httpVersion} ${request.ip} ${request.protocol}`)
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
    socket.on('close', code => ends.push(code))
  })
  return ends
}

const SERVER = { trustProxy: '127.0.0.1' }

async function makeServer(t: Test, isHttp2: boolean): Promise<FastifyInstance> {
  const { app } = isHttp2
    ? await makeHttp2App(t, { perMessageDeflate: true }, { cleartext: true, server: SERVER })
    : await makeApp(t, { perMessageDeflate: true }, SERVER)
  return app
}

for (const isHttp2 of [true, false]) {
  const version = isHttp2 ? '2.0' : '1.1'
  t.test(`HAProxy in front of an application with HTTP/${version}`, { skip: haproxySkip }, async t => {
    const app = await makeServer(t, isHttp2)
    const ends = echo(app)
    const port = await startHaproxy(t, await listen(app), { http1: !isHttp2 })

    await t.test('a client with HTTP/2', async t => {
      const session = await Session.open(t, port, { host: '127.0.0.1' })
      t.equal(session.isAnnounced, true)
      const authority = `127.0.0.1:${port}`
      const client = await session.open('/echo', { origin: `https://${authority}` })
      t.equal(await client.text(), `${version} 127.0.0.1 https`)
      const neighbour = await session.open('/echo')
      await neighbour.text()
      const large = 'x'.repeat(200_000)
      client.write(text(large))
      t.equal(await client.text(), large)
      t.equal(await session.connect('/echo', { origin: 'https://evil.test' }).status(), 403)
      client.write(close(1000))
      t.equal((await client.frame()).opcode, 8)
      client.stream.close(CANCEL)
      neighbour.write(text('still'))
      t.equal(await neighbour.text(), 'still')
      t.strictSame(ends, [1000])
    })

    await t.test('a client with HTTP/1.1', async t => {
      const client = await open(t, port, '/echo', { secure: true, origin: `https://127.0.0.1:${port}` })
      t.equal(await client.next(), `${version} 127.0.0.1 https`)
      t.equal(client.socket.extensions, 'permessage-deflate')
      const large = 'y'.repeat(200_000)
      client.socket.send(large)
      t.equal(await client.next(), large)
      const closed = withDeadline(app.close(), 20_000, 'app.close()')
      t.equal(await client.closed(), '1001')
      await closed
    })
  })
}
