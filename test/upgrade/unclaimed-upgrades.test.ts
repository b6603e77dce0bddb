import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { PassThrough } from 'node:stream'
import t, { type Test } from 'tap'
import { UnclaimedUpgrades } from '../../lib/upgrade/unclaimed-upgrades.js'
import { takeUpgrade } from '../../lib/upgrade/upgrade-events.js'
import { connectRaw, ms, type RawClient } from '../helpers/app.js'

/** A client, and the socket of a server without a reader. */
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

t.test(
  'an upgrade that no listener claims gets 404 at the deadline, or when all unclaimed upgrades are refused',
  async t => {
    for (const way of ['time', 'end'] as const) {
      const { client, socket } = await pair(t)
      const unclaimed = new UnclaimedUpgrades()
      unclaimed.add(socket, socket, way === 'time' ? ms(50) : ms(60_000))
      if (way === 'end') unclaimed.refuse()
      t.equal((await client.response()).status, 404, way)
      await client.end()
      unclaimed.refuse()
    }
  }
)

const write = (socket: Socket): unknown => socket.write('mine')

t.test('an upgrade that a listener claims, before or after, is left alone', async t => {
  for (const take of [
    (socket: Socket) => socket.on('data', () => {}),
    (socket: Socket) => socket.on('readable', () => {}),
    takeUpgrade,
    write
  ]) {
    for (const isEarly of [true, false]) {
      // Earlier writes may belong to a response on the same connection.
      if (isEarly && take === write) continue
      const { client, socket } = await pair(t)
      const unclaimed = new UnclaimedUpgrades()
      if (isEarly) take(socket)
      unclaimed.add(socket, socket, ms(60_000))
      if (!isEarly) take(socket)
      unclaimed.refuse()
      socket.end('the end')
      await client.end()
      t.match(String(client.data), /^(mine)?the end$/)
    }
  }
})

t.test('a listener that writes to a stream around the socket has claimed the upgrade', async t => {
  const { client, socket } = await pair(t)
  const unclaimed = new UnclaimedUpgrades()
  // While the body of the request is incomplete, Node 26 gives listeners a stream without counters.
  const stream = new PassThrough()
  unclaimed.add(stream, socket, ms(60_000))
  socket.write('mine')
  unclaimed.refuse()
  socket.end(' the end')
  await client.end()
  t.equal(String(client.data), 'mine the end')
  t.equal(stream.writableEnded, false)
})

t.test('a reset of an unclaimed upgrade causes no uncaught exception', async t => {
  const { client, socket } = await pair(t)
  new UnclaimedUpgrades().add(socket, socket, ms(60_000))
  const closed = new Promise(resolve => socket.once('close', resolve))
  socket.resume()
  client.socket.resetAndDestroy()
  await closed
  t.equal(socket.destroyed, true)
})
