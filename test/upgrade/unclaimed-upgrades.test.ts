import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import t, { type Test } from 'tap'
import { LeftUpgrades } from '../../lib/upgrade/unclaimed-upgrades.js'
import { takeUpgrade } from '../../lib/upgrade/upgrade-owner.js'
import { connectRaw, ms, type RawClient } from '../helpers/app.js'

/** A client, and the socket of a server that nobody reads. */
async function pair(t: Test): Promise<{ client: RawClient; socket: Socket }> {
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true })
  const accepted = once(server, 'connection')
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const client = await connectRaw(t, address.port)
  const [socket]: Socket[] = await accepted
  t.teardown(() => socket.destroy())
  return { client, socket }
}

t.test('who is not taken in time gets 404, and so do all of them at the end', async t => {
  for (const way of ['time', 'end'] as const) {
    const { client, socket } = await pair(t)
    const left = new LeftUpgrades()
    left.add(socket, way === 'time' ? ms(50) : ms(60_000))
    if (way === 'end') left.end()
    t.equal((await client.response()).status, 404, way)
    await client.end()
    left.end()
  }
})

const write = (socket: Socket): unknown => socket.write('mine')

t.test('who is taken, before or after, is left alone', async t => {
  for (const take of [
    (socket: Socket) => socket.on('data', () => {}),
    (socket: Socket) => socket.on('readable', () => {}),
    takeUpgrade,
    write
  ]) {
    for (const isEarly of [true, false]) {
      // Of what was written before nobody knows whose it is.
      if (isEarly && take === write) continue
      const { client, socket } = await pair(t)
      const left = new LeftUpgrades()
      if (isEarly) take(socket)
      left.add(socket, ms(60_000))
      if (!isEarly) take(socket)
      left.end()
      socket.end('the end')
      await client.end()
      t.match(String(client.data), /^(mine)?the end$/)
    }
  }
})

t.test('a listener that writes to a stream around the socket has taken it', async t => {
  const { client, socket } = await pair(t)
  const left = new LeftUpgrades()
  // While the body of the request is incomplete, Node 26 gives listeners a stream without counters.
  const stream = Object.assign(new PassThrough(), { bytesWritten: undefined })
  left.add(stream as unknown as Socket, ms(60_000), socket)
  socket.write('mine')
  left.end()
  socket.end(' the end')
  await client.end()
  t.equal(String(client.data), 'mine the end')
  t.equal(stream.writableEnded, false)
})

t.test('a reset of one that nobody has taken harms nobody', async t => {
  const { client, socket } = await pair(t)
  new LeftUpgrades().add(socket, ms(60_000))
  const closed = new Promise(resolve => socket.once('close', resolve))
  socket.resume()
  client.socket.resetAndDestroy()
  await closed
  t.equal(socket.destroyed, true)
})
