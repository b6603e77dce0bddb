import { once } from 'node:events'
import t from 'tap'
import { prepare } from '../../lib/socket/prepared-message.js'
import {
  Calls,
  closing,
  connect,
  KINDS,
  MIB,
  NOT_OPEN,
  stalled,
  texts,
  tick,
  watchProcess
} from './harness.js'

for (const over of KINDS) {
  t.test(
    `over ${over}: many writes to a peer that does not read are queued, and arrive in order later`,
    async t => {
      const { socket, peer } = await connect(t, { over })
      peer.stream.pause()
      const large = prepare('x'.repeat(MIB))
      for (const name of texts(8, 'small ')) {
        // Each is a write of one buffer; the first of them are still pending when the next follow.
        socket.send(large)
        await tick()
        socket.send(name)
        await tick()
        socket.ping(name)
        await tick()
      }
      t.ok(socket.bufferedAmount > MIB)
      socket.send('last')
      peer.stream.resume()
      await peer.until(() => peer.frames.includes('text last'), 'the last message')
      t.strictSame(
        peer.frames.map(line => (line.length > 100 ? `${line.length}` : line)),
        [...texts(8, 'small ').flatMap(name => [`${MIB + 5}`, `text ${name}`, `ping ${name}`]), 'text last']
      )
      await peer.until(() => true, 'nothing')
      socket.terminate()
    }
  )

  t.test(`over ${over}: a write follows a pending one, with and without a callback`, async t => {
    const { socket, peer } = await connect(t, { over })
    const calls = new Calls()
    for (const name of texts(20)) {
      socket.send(name)
      await tick()
      socket.send(`${name} called`, calls.note(name))
    }
    socket.send('last', calls.note('last'))
    await peer.until(() => peer.frames.includes('text last'), 'the last message')
    t.strictSame(peer.frames, [
      ...texts(20).flatMap(name => [`text ${name}`, `text ${name} called`]),
      'text last'
    ])
    await tick()
    t.strictSame(calls.lines, [...texts(20), 'last'])
  })

  t.test(`over ${over}: bufferedAmount counts a write until the operating system has taken it`, async t => {
    const { socket, peer } = await connect(t, { over, highWaterMark: 1000 })
    await stalled({ socket, peer, stream: peer.stream, errors: [] }, 4 * MIB)
    const before = socket.bufferedAmount
    socket.send(prepare('x'.repeat(1000)))
    t.equal(socket.bufferedAmount, before + 1004)
    await tick()
    t.equal(socket.bufferedAmount, before + 1004)
    const drained = once(socket, 'drain')
    peer.stream.resume()
    await drained
    t.ok(socket.bufferedAmount <= 1000)
  })

  t.test(`over ${over}: a close behind pending writes leaves after them`, async t => {
    const { socket, peer } = await connect(t, { over })
    const closed = closing(socket)
    for (const name of texts(10)) {
      socket.send(prepare(name.repeat(50_000)))
      await tick()
    }
    socket.close(1000, 'done')
    peer.stream.end()
    await peer.end()
    t.equal(peer.frames.length, 11)
    t.equal(peer.frames.at(-1), 'close 1000 done')
    await closed
  })

  t.test(
    `over ${over}: each callback is called once when the connection is cut during pending writes`,
    async t => {
      const uncaught = watchProcess(t)
      const { socket, peer, errors } = await connect(t, { over })
      peer.stream.pause()
      const closed = closing(socket)
      const calls = new Calls()
      for (let i = 0; i < 4; i++) {
        socket.send(prepare('x'.repeat(2 * MIB)))
        await tick()
      }
      socket.send('called', calls.note('called'))
      await tick()
      socket.send('also', calls.note('also'))
      socket.terminate()
      t.equal(await closed, '1006')
      await tick()
      t.strictSame(calls.lines, [`called ${NOT_OPEN}`, `also ${NOT_OPEN}`])
      t.strictSame(errors, [])
      t.strictSame(uncaught, [])
      t.equal(socket.bufferedAmount, 0)
    }
  )
}
