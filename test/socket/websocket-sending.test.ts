import t from 'tap'
import { withDeadline } from '../helpers/timeout.js'
import {
  Calls,
  closing,
  connect,
  connectWs,
  MIB,
  NOT_OPEN,
  nextEvent,
  roundTrip,
  spyOnWrites,
  stalled,
  texts,
  tick,
  watchProcess
} from './harness.js'

t.test('text, bytes of every kind and options are sent', async t => {
  const { socket, peer } = await connect(t)
  const memory = Uint8Array.from([1, 2, 3, 4])
  const shared = new SharedArrayBuffer(2)
  new Uint8Array(shared).set([5, 6])
  const returned = [
    socket.send('grün'),
    socket.send(''),
    socket.send(memory),
    socket.send(memory.buffer),
    socket.send(shared),
    socket.send(new DataView(memory.buffer, 1, 2)),
    socket.send(new Uint16Array(memory.buffer, 2, 1)),
    socket.send('as binary', { binary: true }),
    socket.send(Buffer.from('as text'), { binary: false }),
    socket.send('ignored', { compress: true, mask: true }),
    socket.send('none', undefined)
  ]
  await peer.until(() => peer.frames.length === returned.length, 'all')
  t.strictSame(peer.frames, [
    'text grün',
    'text',
    'binary 01020304',
    'binary 01020304',
    'binary 0506',
    'binary 0203',
    'binary 0304',
    `binary ${Buffer.from('as binary').toString('hex')}`,
    'text as text',
    'text ignored',
    'text none'
  ])
  t.ok(returned.every(result => result === true))
  t.ok(peer.raw.every(({ key }) => key === undefined))
})

t.test('a message may be sent in fragments, with a ping between them', async t => {
  const { socket, peer } = await connect(t)
  socket.send('a', { fin: false })
  socket.ping('p')
  socket.send('b', { fin: false })
  socket.send('c', { fin: true })
  socket.send('d')
  await peer.until(() => peer.frames.length === 5, 'all')
  t.strictSame(peer.frames, ['text more a', 'ping p', 'continuation more b', 'continuation c', 'text d'])
})

t.test('data that is neither text nor bytes throws, and nothing is sent', async t => {
  const { socket, peer } = await connect(t)
  for (const value of [undefined, null, {}, [1], true]) {
    t.throws(() => Reflect.apply(socket.send, socket, [value]), { code: 'FST_UPGRADE_INVALID_DATA' })
  }
  t.throws(() => Reflect.apply(socket.ping, socket, [{}]), { code: 'FST_UPGRADE_INVALID_DATA' })
  t.throws(() => socket.ping('x'.repeat(126)), { code: 'FST_UPGRADE_PING_TOO_LONG' })
  t.throws(() => socket.pong(Buffer.alloc(126)), { code: 'FST_UPGRADE_PING_TOO_LONG' })
  socket.close(1000)
  t.throws(() => Reflect.apply(socket.send, socket, [{}]), { code: 'FST_UPGRADE_INVALID_DATA' })
  t.equal(await peer.next(), 'close 1000')
})

t.test('ping and pong work in all their forms, and each callback runs once', async t => {
  const { socket, peer } = await connect(t)
  const calls = new Calls()
  socket.ping()
  socket.ping(calls.note('first'))
  socket.ping('a', calls.note('second'))
  socket.ping('b', true, calls.note('third'))
  socket.ping(undefined, undefined, calls.note('fourth'))
  socket.pong()
  socket.pong(calls.note('fifth'))
  socket.pong(Buffer.from('c'), calls.note('sixth'))
  socket.pong('d', false, calls.note('seventh'))
  await peer.until(() => peer.frames.length === 9, 'all')
  await tick()
  t.strictSame(peer.frames, ['ping', 'ping', 'ping a', 'ping b', 'ping', 'pong', 'pong', 'pong c', 'pong d'])
  t.strictSame(calls.lines, ['first', 'second', 'third', 'fourth', 'fifth', 'sixth', 'seventh'])
})

t.test('callbacks may be passed in every position, and run in order after send has returned', async t => {
  const { socket, peer } = await connect(t)
  const calls = new Calls()
  socket.send('1', calls.note('1'))
  socket.send('2', {}, calls.note('2'))
  socket.send('3', undefined, calls.note('3'))
  socket.send('x'.repeat(10_000), { binary: true }, calls.note('4'))
  t.strictSame(calls.lines, [])
  await peer.until(() => peer.frames.length === 4, 'all')
  await roundTrip(t)
  t.strictSame(calls.lines, ['1', '2', '3', '4'])
})

t.test('a callback may send, and may throw', async t => {
  const { socket, peer, errors } = await connect(t)
  const calls = new Calls()
  socket.send('1', () => {
    socket.send('nested', calls.note('nested'))
    throw new Error('thrown')
  })
  socket.send('2', calls.note('2'))
  await peer.until(() => peer.frames.length === 3, 'all')
  await roundTrip(t)
  t.strictSame(peer.frames, ['text 1', 'text 2', 'text nested'])
  t.strictSame(calls.lines, ['2', 'nested'])
  t.match(errors, [{ message: 'thrown' }])
})

t.test(
  'callbacks of sends after close get an error, in the same tick and later, and nothing else happens',
  async t => {
    const { socket, peer, errors } = await connect(t)
    socket.on('error', () => t.fail('send never emits error'))
    const calls = new Calls()
    socket.send('1', calls.note('1'))
    socket.close(1000)
    t.equal(socket.send('2', calls.note('2')), false)
    t.equal(socket.send('unnoticed'), false)
    socket.ping(calls.note('ping'))
    socket.pong('x', calls.note('pong'))
    t.strictSame(calls.lines, [])
    t.equal(await peer.next(), 'text 1')
    t.equal(await peer.next(), 'close 1000')
    await roundTrip(t)
    const refused = [`2 ${NOT_OPEN}`, `ping ${NOT_OPEN}`, `pong ${NOT_OPEN}`]
    t.strictSame([...calls.lines].sort(), ['1', ...refused])
    t.equal(socket.send('3', calls.note('3')), false)
    await tick()
    t.equal(calls.lines.at(-1), `3 ${NOT_OPEN}`, 'immediately, not when the connection is closed')
    t.equal(socket.readyState, socket.CLOSING)
    const closed = closing(socket)
    peer.stream.end()
    await closed
    t.equal(socket.send('4', calls.note('4')), false)
    await tick()
    t.equal(calls.lines.at(-1), `4 ${NOT_OPEN}`)
    t.equal(calls.lines.length, 6)
    t.strictSame(peer.frames, [])
    t.strictSame(errors, [])
  }
)

t.test('callbacks get an error when terminate is called in the same tick', async t => {
  const { socket, peer } = await connect(t)
  const calls = new Calls()
  const closed = closing(socket)
  socket.send('1', calls.note('1'))
  socket.send('2')
  socket.ping(calls.note('2'))
  socket.terminate()
  socket.send('3', calls.note('3'))
  t.strictSame(calls.lines, [])
  t.equal(socket.readyState, socket.CLOSING)
  await closed
  await tick()
  t.strictSame(
    [...calls.lines].sort(),
    ['1', '2', '3'].map(name => `${name} ${NOT_OPEN}`)
  )
  await peer.end()
  t.strictSame(peer.frames, [])
})

t.test(
  'callbacks are called after a reset, after the stream is destroyed, and with a reply inside a callback',
  async t => {
    const uncaught = watchProcess(t)
    for (const how of ['reset', 'destroy'] as const) {
      const subject = await connect(t)
      const { socket, stream, peer, errors } = subject
      socket.readAlways()
      await stalled(subject, 4 * MIB)
      const counts = new Map<string, number>()
      let failed = 0
      const count = (name: string) => (error?: Error) => {
        counts.set(name, (counts.get(name) ?? 0) + 1)
        if (error) failed++
        if (name === '0') socket.send('nested', count('nested'))
      }
      for (const name of texts(5)) {
        socket.send(name, count(name))
        if (name !== '4') await tick()
      }
      const closed = closing(socket)
      if (how === 'reset') peer.reset()
      else stream.destroy(new Error('destroyed'))
      t.equal(await closed, '1006')
      await tick()
      t.strictSame(
        [...counts].sort(),
        [...texts(5), 'nested'].map(name => [name, 1]),
        how
      )
      t.equal(failed, 6)
      t.equal(socket.bufferedAmount, 0)
      t.strictSame(errors, [])
    }
    t.strictSame(uncaught, [])
  }
)

t.test('all messages of a tick leave in one write', async t => {
  const { socket, stream, peer } = await connect(t)
  const writes = spyOnWrites(stream)
  socket.send('a')
  socket.ping('p')
  await Promise.resolve()
  socket.send('x'.repeat(70_000))
  socket.send('b')
  socket.close(1000)
  await peer.until(() => peer.frames.length === 5, 'all')
  t.equal(writes.length, 1)
  t.strictSame(
    peer.frames.map(line => line.slice(0, 6)),
    ['text a', 'ping p', 'text x', 'text b', 'close ']
  )
})

t.test('all messages arrive at a client of ws, in order', async t => {
  const { socket, client } = await connectWs(t)
  const got: string[] = []
  const done = new Promise<void>(resolve => {
    client.on('message', (data, isBinary) => {
      if (got.push(`${isBinary} ${String(data).slice(0, 8)} ${String(data).length}`) === 302) resolve()
    })
  })
  const pinged = nextEvent(client, 'ping')
  for (const data of texts(300)) socket.send(data)
  socket.send(Buffer.alloc(300_000, 'b'))
  socket.ping('p')
  socket.send('end')
  await withDeadline(done, 5000, 'messages')
  t.strictSame(
    got.slice(0, 300),
    texts(300).map(data => `false ${data} ${data.length}`)
  )
  t.strictSame(got.slice(300), ['true bbbbbbbb 300000', 'false end 3'])
  t.strictSame(await pinged, [Buffer.from('p')])
})
