import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { duplexPair } from 'node:stream'
import { connect as connectTls, createServer as createTlsServer } from 'node:tls'
import t, { type Test } from 'tap'
import { acknowledgedBytes, queuedBytes, SendQueues, takenBytes } from '../../lib/socket/send-queue.js'
import { withDeadline } from '../helpers/timeout.js'
import { CERTIFICATE, KEY } from './certificate.js'

/** Both ends of a connection to `host`, with or without TLS. */
async function pair(t: Test, host: string, listensOn = host, secure = false): Promise<[Socket, Socket]> {
  const server = secure ? createTlsServer({ key: KEY, cert: CERTIFICATE }) : createServer()
  server.listen(0, listensOn)
  await once(server, 'listening')
  const accepted = once(server, secure ? 'secureConnection' : 'connection')
  const { port } = server.address() as AddressInfo
  const far = secure ? connectTls({ port, host, rejectUnauthorized: false }) : connect(port, host)
  const [near]: unknown[] = await accepted
  if (!(near instanceof Socket)) throw new Error('no socket')
  t.teardown(() => {
    near.destroy()
    far.destroy()
    server.close()
  })
  return [near, far]
}

const skip = process.platform === 'linux' ? false : 'only Linux exposes the queues'

const PAIRS: Readonly<Record<string, readonly [host: string, listensOn: string, secure: boolean]>> = {
  IPv4: ['127.0.0.1', '127.0.0.1', false],
  IPv6: ['::1', '::1', false],
  'IPv4 on an IPv6 socket': ['127.0.0.1', '::', false],
  TLS: ['127.0.0.1', '127.0.0.1', true]
}
for (const [name, args] of Object.entries(PAIRS)) {
  t.test(`${name}: the unacknowledged bytes of a peer, and its progress, are visible`, { skip }, async t => {
    const [near, far] = await pair(t, ...args)
    far.pause()
    while (near.writableLength < 1e6) {
      near.write(Buffer.alloc(1e6))
      await new Promise(resolve => setImmediate(resolve))
    }
    const stopped = await acknowledgedBytes(near)
    const taken = Number(takenBytes(near))
    t.ok(Number(stopped?.atMost) < taken - 100_000, `${stopped?.atMost} of ${taken}`)
    t.ok(Number(stopped?.atLeast) > 0)
    far.resume()
    const drained = async (): Promise<number> => {
      for (;;) {
        const { atLeast = 0 } = (await acknowledgedBytes(near)) ?? {}
        if (near.writableLength === 0 && atLeast === takenBytes(near)) return atLeast
      }
    }
    t.ok((await withDeadline(drained(), 20_000, 'the end of the queue')) > taken)
  })
}

t.test('streams that are no TCP sockets have no queue', async t => {
  const [near] = duplexPair()
  t.equal(acknowledgedBytes(near), undefined)
  t.equal(takenBytes(near), undefined)
  const path =
    process.platform === 'win32' ? `\\\\.\\pipe\\${process.pid}` : join(tmpdir(), `q${process.pid}`)
  const server = createServer().listen(path)
  await once(server, 'listening')
  const local = connect(path)
  await once(local, 'connect')
  t.equal(acknowledgedBytes(local), undefined)
  t.equal(takenBytes(local), 0)
  local.destroy()
  server.close()
})

t.test(
  'sockets that are queried within a tick share one read of the tables; later ones cause another read',
  async t => {
    const [near, far] = await pair(t, '127.0.0.1')
    let looks = 0
    const tables = new Proxy(['/proc/self/net/tcp'], {
      get: (target, name, receiver) => {
        if (name === Symbol.iterator) looks++
        return Reflect.get(target, name, receiver)
      }
    })
    const queues = new SendQueues(tables)
    const asked = [near, far, near].map(socket => queues.acknowledged(socket))
    t.equal(looks, 0)
    await asked[0]
    t.equal(looks, 1)
    await Promise.all(asked)
    const late = [near, far].map(socket => queues.acknowledged(socket))
    await Promise.all(late)
    t.equal(looks, 2)
  }
)

t.test('nothing is known when the tables are missing or cannot be read', async t => {
  const [near] = await pair(t, '127.0.0.1')
  for (const tables of [['/nowhere/tcp'], [tmpdir()], []]) {
    t.equal(await new SendQueues(tables).acknowledged(near), undefined)
  }
})

t.test('a socket that closes before or during the read has no queue', async t => {
  for (const late of [false, true]) {
    const [near] = await pair(t, '127.0.0.1')
    const queues = new SendQueues()
    const asked = queues.acknowledged(near)
    if (late) await Promise.resolve()
    near.destroy()
    t.equal(await asked, undefined)
  }
})

t.test('nothing is known of a socket where Node lacks a field of its handle', async t => {
  const handle = { fd: 1, bytesWritten: 1, writeQueueSize: 0 }
  for (const field of Object.keys(handle)) {
    const socket = new Socket()
    Object.assign(socket, { _handle: { ...handle, [field]: undefined } })
    t.equal(takenBytes(socket), undefined, field)
    t.equal(queuedBytes(socket), 0, field)
    t.equal(await new SendQueues().acknowledged(socket), undefined, field)
    Object.assign(socket, { _handle: null })
    socket.destroy()
  }
})

t.test('nothing is known of a socket with an invalid descriptor', async t => {
  const socket = new Socket()
  Object.assign(socket, { _handle: { fd: 2 ** 30, bytesWritten: 0, writeQueueSize: 0 } })
  t.equal(await new SendQueues().acknowledged(socket), undefined)
  Object.assign(socket, { _handle: null })
})

t.test('the length of a queue is parsed as hexadecimal, and other sockets are ignored', { skip }, async t => {
  const folder = await mkdtemp(join(tmpdir(), 'queues-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const [near] = await pair(t, '127.0.0.1')
  const handle: unknown = Reflect.get(near, '_handle')
  const { fstatSync } = await import('node:fs')
  const { ino } = fstatSync(Number(Reflect.get(Object(handle), 'fd')))
  const line = (queue: string, inode: number): string =>
    `12345: 0100007F:1F90 0100007F:D431 01 ${queue}:00000000 01:00000014 00000000  1000        0 ${inode} 1 00000000a0bd3b77 20 4 30 10 -1`.padEnd(
      149
    )
  const head =
    '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode'
  const path = join(folder, 'tcp')
  // More than is read at a time.
  const others = Array.from({ length: 100 }, (_, i) => line('00000001', ino + 1 + i))
  await writeFile(path, [head, ...others, line('0009AbCF'.toUpperCase(), ino), ...others, ''].join('\n'))
  const seen = await new SendQueues([path]).acknowledged(near)
  t.strictSame(seen, { atLeast: -0x9abcf, atMost: -0x9abcf })
})
