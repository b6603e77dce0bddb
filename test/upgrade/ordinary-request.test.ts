import { once } from 'node:events'
import { createServer, IncomingMessage } from 'node:http'
import { createServer as createTcpServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { chunked, serveOrdinarily } from '../../lib/upgrade/ordinary-request.js'
import { connectRaw, type RawClient, withDeadline } from '../helpers/app.js'

interface Unfinished {
  readonly client: RawClient
  readonly socket: Socket
  /** A request whose body has not arrived, as in the `upgrade` event of Node 26. */
  readonly request: IncomingMessage
}

async function unfinished(t: Test, connection = 'Upgrade'): Promise<Unfinished> {
  const server = createTcpServer({ allowHalfOpen: true })
  const accepted = once(server, 'connection')
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const client = await connectRaw(t, address.port)
  const [socket]: Socket[] = await accepted
  t.teardown(() => socket.destroy())
  const request = new IncomingMessage(socket)
  Object.assign(request, {
    method: 'POST',
    url: '/',
    httpVersion: '1.1',
    httpVersionMajor: 1,
    httpVersionMinor: 1
  })
  request.rawHeaders = ['Host', 'x', 'Connection', connection, 'Upgrade', 'foo', 'Expect', '100-continue']
  request.headers = { host: 'x', connection, upgrade: 'foo', expect: '100-continue' }
  return { client, socket, request }
}

function finish(request: IncomingMessage, body: string): void {
  request.push(body)
  request.complete = true
  request.push(null)
}

t.test(
  'a request whose body arrives later is served as the body arrives, and then the connection ends',
  async t => {
    const { client, socket, request } = await unfinished(t, 'Upgrade, X')
    const server = createServer((message, response) => {
      const { connection, upgrade = null, host } = message.headers
      t.strictSame(message.headersDistinct.connection, ['X'])
      t.notMatch(message.rawHeaders.join(), 'Upgrade')
      let body = ''
      message.on('data', data => {
        body += data
      })
      message.on('end', () => response.end(JSON.stringify({ connection, upgrade, host, body })))
    })
    serveOrdinarily(server, request, socket, Buffer.alloc(0))
    t.equal((await client.head()).status, 100)
    finish(request, 'hello')
    const response = await client.response()
    t.equal(response.headers.get('connection')?.[0], 'close')
    t.strictSame(JSON.parse(response.body), { connection: 'X', upgrade: null, host: 'x', body: 'hello' })
    await client.end()
  }
)

t.test('a response of any size is sent', async t => {
  const { client, socket, request } = await unfinished(t)
  const size = 2_000_000
  const server = createServer((message, response) => {
    t.strictSame(Object.keys(message.headers), ['host', 'expect'])
    message.resume().on('end', () => {
      response.setHeader('content-length', size)
      let left = size
      const write = (): void => {
        while (left > 0) {
          left -= 100_000
          if (!response.write(Buffer.alloc(100_000)) && left > 0) {
            response.once('drain', write)
            return
          }
        }
        response.end()
      }
      write()
    })
  })
  serveOrdinarily(server, request, socket, Buffer.alloc(0))
  finish(request, 'x')
  t.equal((await client.head()).status, 100)
  t.equal((await client.response()).body.length, size)
  await client.end()
})

t.test(
  'a client that leaves, or is silent for too long, before the body has arrived is disconnected',
  async t => {
    for (const way of ['leaves', 'is silent'] as const) {
      const { client, socket, request } = await unfinished(t)
      delete request.headers.expect
      const aborted = once(request, 'aborted')
      const server = createServer((message, response) => response.on('close', () => message.emit('over')))
      const over = once(request, 'over')
      serveOrdinarily(server, request, socket, Buffer.alloc(0))
      if (way === 'leaves') {
        socket.resume()
        client.socket.resetAndDestroy()
      } else socket.emit('timeout')
      await withDeadline(Promise.all([aborted, over]), 10_000, way)
      t.equal(socket.destroyed, true, way)
    }
  }
)

for (const [kind, fields, trailers] of [
  ['with a length', { 'content-length': '5' }, {}],
  ['in chunks', { 'transfer-encoding': 'chunked' }, {}],
  ['in chunks, with trailers', { 'transfer-encoding': 'chunked' }, { 'x-sum': '1, 2' }]
] as const) {
  t.test(`a body that Node has already read, as Node 26 does, is read again: ${kind}`, async t => {
    const { client, socket, request } = await unfinished(t)
    request.headers = { host: 'x', connection: 'Upgrade', upgrade: 'foo', ...fields }
    request.rawHeaders = Object.entries(request.headers).flat().map(String)
    request.rawTrailers = 'x-sum' in trailers ? ['X-Sum', '1', 'x-sum', '2'] : []
    request.push('hel')
    finish(request, 'lo')
    const server = createServer((message, response) => {
      let body = ''
      message.on('data', data => {
        body += data
      })
      message.on('end', () =>
        response.end(JSON.stringify({ url: message.url, body, trailers: message.trailers }))
      )
    })
    serveOrdinarily(server, request, socket, Buffer.from('GET /next HTTP/1.1\r\nHost: x\r\n\r\n'))
    t.strictSame(JSON.parse((await client.response()).body), { url: '/', body: 'hello', trailers })
    t.strictSame(JSON.parse((await client.response()).body), { url: '/next', body: '', trailers: {} })
    client.socket.end()
    await client.end()
  })
}

t.test('RFC 9112 section 7.1: an empty chunked body consists of the last chunk only', t => {
  t.equal(String(chunked(Buffer.alloc(0), [])), '0\r\n\r\n')
  t.end()
})
