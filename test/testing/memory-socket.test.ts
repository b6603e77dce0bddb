import { once } from 'node:events'
import { createServer, request } from 'node:http'
import { text } from 'node:stream/consumers'
import FakeTimers from '@sinonjs/fake-timers'
import t from 'tap'
import { MemorySocket } from '../../lib/testing/memory-socket.js'
import { Signal, tick, withDeadline } from '../helpers/app.js'
import { nextEvent } from '../socket/harness.js'

const pair = (address = '127.0.0.1', encrypted = false) => MemorySocket.pair(address, encrypted)

/** Records the events of a stream in order. */
function log(socket: MemorySocket): string[] {
  const lines: string[] = []
  socket.on('data', data => lines.push(`data ${data}`))
  for (const event of ['end', 'finish', 'close', 'timeout']) socket.on(event, () => lines.push(event))
  socket.on('error', error => lines.push(`error ${Reflect.get(error, 'code')}`))
  return lines
}

const sides = ['server', 'client'] as const

for (const side of sides) {
  const other = side === 'server' ? 'client' : 'server'

  t.test(`${side}: written data arrives later, as a copy`, async t => {
    const { [side]: near, [other]: far } = pair()
    const lines = log(far)
    const data = Buffer.from('one')
    near.write(data)
    t.strictSame(lines, [])
    await tick()
    t.strictSame(lines, ['data one'])
    const [got]: Buffer[] = await Promise.all([once(far, 'data').then(([first]) => first), near.write(data)])
    got?.fill(0)
    t.equal(String(data), 'one')
    t.equal(near.bytesWritten, 6)
    t.equal(far.bytesRead, 6)
  })

  t.test(`${side}: data of one tick arrives together`, async t => {
    const { [side]: near, [other]: far } = pair()
    const lines = log(far)
    near.cork()
    near.write('one')
    near.write('two')
    near.uncork()
    await tick()
    t.strictSame(lines, ['data onetwo'])
  })

  t.test(`${side}: a large amount arrives in pieces`, async t => {
    const { [side]: near, [other]: far } = pair()
    const sizes: number[] = []
    far.on('data', (data: Buffer) => sizes.push(data.length))
    near.write(Buffer.alloc(150_000))
    await tick()
    await tick()
    t.strictSame(sizes, [65_536, 65_536, 18_928])
  })

  t.test(`${side}: a reader that does not read causes backpressure`, async t => {
    const { [side]: near, [other]: far } = pair()
    const chunk = Buffer.alloc(50_000)
    let written = 0
    while (near.write(chunk, () => written++));
    for (let i = 0; i < 3; i++) near.write(chunk, () => written++)
    await tick()
    const before = written
    await tick()
    t.equal(written, before, 'no more is taken')
    t.ok(near.writableLength > 100_000, `${near.writableLength} bytes are buffered`)
    far.resume()
    await once(near, 'drain')
    await tick()
    t.equal(near.writableLength, 0)
    t.equal(far.bytesRead, near.bytesWritten)
  })

  t.test(`${side}: an end arrives after the written data`, async t => {
    const { [side]: near, [other]: far } = pair()
    const lines = log(far)
    near.end('bye')
    await once(far, 'end')
    t.strictSame(lines.slice(0, 2), ['data bye', 'end'])
  })

  t.test(
    `${side}: after a destroy, the other side receives the data and the end, and its writes fail`,
    async t => {
      const { [side]: near, [other]: far } = pair()
      far.allowHalfOpen = true
      const lines = log(far)
      near.write('last')
      near.destroy()
      await tick()
      t.strictSame(lines, ['data last', 'end'])
      const failed = nextEvent(far, 'close')
      far.write('too late')
      await failed
      t.strictSame(lines, ['data last', 'end', 'error EPIPE', 'close'])
    }
  )

  t.test(
    `${side}: data that a destroyed side had not sent is lost, without an error on the other side`,
    async t => {
      for (const isSoon of [true, false]) {
        const { [side]: near, [other]: far } = pair()
        const lines = log(far)
        let length = 0
        far.on('data', data => {
          length += data.length
        })
        near.write(Buffer.alloc(1_000_000))
        if (!isSoon) await once(far, 'data')
        near.destroy()
        await once(far, 'end')
        await tick()
        t.ok(length > 0 && length < 1_000_000, `${length} bytes have arrived`)
        t.notMatch(lines.join(), /error/)
        far.destroy()
      }
    }
  )

  t.test(`${side}: a pending write ends when the other side is destroyed`, async t => {
    const { [side]: near, [other]: far } = pair()
    const done = new Signal()
    const lines = log(near)
    near.write(Buffer.alloc(200_000), () => done.fire())
    await tick()
    t.equal(near.writableLength, 200_000)
    far.destroy()
    await done.wait('end of the write')
    await tick()
    t.strictSame(lines, ['error EPIPE', 'close'], 'data that cannot be read cannot be written')
  })

  t.test(`${side}: a reset reaches the other side`, async t => {
    const { [side]: near, [other]: far } = pair()
    const lines = log(far)
    t.equal(near.resetAndDestroy(), near)
    await nextEvent(far, 'close')
    t.strictSame(lines, ['error ECONNRESET', 'close'])
  })

  t.test(`${side}: destroySoon sends the written data first`, async t => {
    const { [side]: near, [other]: far } = pair()
    const lines = log(far)
    near.write('last')
    near.destroySoon()
    near.destroySoon()
    await once(near, 'close')
    await tick()
    t.strictSame(lines.slice(0, 2), ['data last', 'end'])
    near.destroySoon()
    t.ok(near.destroyed)
  })

  t.test(`${side}: destroySoon destroys immediately when nothing is pending`, async t => {
    const { [side]: near } = pair()
    near.allowHalfOpen = true
    near.end()
    await once(near, 'finish')
    near.destroySoon()
    t.ok(near.destroyed)
  })

  t.test(`${side}: a socket without traffic emits timeout`, async t => {
    const clock = FakeTimers.install({ toFake: ['setTimeout', 'clearTimeout'] })
    t.teardown(() => clock.uninstall())
    const { [side]: near, [other]: far } = pair()
    far.resume()
    let timeouts = 0
    const count = (): void => void timeouts++
    t.equal(near.setTimeout(1_000, count), near)
    t.equal(near.timeout, 1_000)
    for (const writer of [near, far, near]) {
      clock.tick(999)
      writer.resume().write('x')
      await tick()
    }
    t.equal(timeouts, 0, 'traffic in both directions restarts the timeout')
    clock.tick(1_000)
    t.equal(timeouts, 1)
    t.notOk(near.destroyed)
    near.setTimeout(1_000, count).setTimeout(0, count)
    near.on('timeout', count)
    clock.tick(10_000)
    t.equal(timeouts, 1, 'the timeout is disabled')
    near.setTimeout(1_000)
    near.destroy()
    clock.tick(10_000)
    t.equal(timeouts, 1, 'nothing after the end')
  })
}

t.test('the server keeps its side open when the client ends, and the client does not', async t => {
  const { server, client } = pair()
  server.resume()
  client.resume()
  client.end()
  await once(server, 'end')
  await tick()
  t.ok(server.writable)
  server.end()
  await once(client, 'close')
  const second = pair()
  second.client.resume()
  second.server.end()
  await once(second.client, 'end')
  await tick()
  t.notOk(second.client.writable)
})

t.test('both sides know the addresses', async t => {
  const { server, client } = pair('192.0.2.7')
  const address = { address: '192.0.2.7', family: 'IPv4', port: client.localPort }
  t.strictSame(client.address(), address)
  t.match(server, {
    remoteAddress: '192.0.2.7',
    remoteFamily: 'IPv4',
    remotePort: client.localPort,
    localAddress: '127.0.0.1',
    localPort: 80,
    encrypted: false,
    connecting: false,
    pending: false
  })
  t.match(client, {
    remoteAddress: '127.0.0.1',
    remotePort: 80,
    localAddress: '192.0.2.7',
    localFamily: 'IPv4'
  })
  t.not(pair().client.localPort, client.localPort, 'each client has its own port')
  t.match(pair('::1', true).server, {
    remoteFamily: 'IPv6',
    localAddress: '::1',
    localPort: 443,
    encrypted: true
  })
})

t.test('settings without effect in memory are accepted', async t => {
  const { server } = pair()
  t.equal(server.setNoDelay().setKeepAlive().ref().unref(), server)
})

t.test("Node's HTTP server and client work over it, one request after another", async t => {
  const server = createServer(async (request, response) => {
    const body = await text(request)
    response.end(`${request.method} ${request.url} ${body.length} from ${request.socket.remoteAddress}`)
  })
  const ends = pair('192.0.2.1')
  server.emit('connection', ends.server)
  for (const size of [0, 1_000_000]) {
    const sent = request({ method: 'POST', path: '/a', createConnection: () => pairOf(server) })
    sent.end('x'.repeat(size))
    const [response] = await once(sent, 'response')
    t.equal(await text(response), `POST /a ${size} from 192.0.2.2`)
  }
  const answers: string[] = []
  ends.client.on('data', data => answers.push(String(data)))
  ends.client.write('GET /1 HTTP/1.1\r\nHost: a\r\n\r\n')
  ends.client.write('GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
  await withDeadline(once(ends.client, 'close'), 5_000, 'close')
  t.match(answers.join(''), /GET \/1 0 from 192\.0\.2\.1.*GET \/2 0 from 192\.0\.2\.1/s)
})

function pairOf(server: ReturnType<typeof createServer>): MemorySocket {
  const ends = pair('192.0.2.2')
  server.emit('connection', ends.server)
  return ends.client
}
