import t from 'tap'
import { Lifetime } from '../../lib/socket/lifetime.js'
import { ms } from '../helpers/timeout.js'
import { close, connect, ping, text, told } from './harness.js'

t.test('idleTimeout closes with 1001 when no message comes or goes; pings do not count', async t => {
  const { socket, peer } = await connect(t, { idleTimeout: ms(80) })
  socket.readAlways()
  const since = performance.now()
  const pings = setInterval(() => peer.send(ping()), ms(10))
  t.teardown(() => clearInterval(pings))
  await peer.until(() => peer.frames.some(frame => frame.startsWith('close')), 'Close')
  clearInterval(pings)
  t.equal(peer.frames.at(-1), 'close 1001 idle')
  t.ok(performance.now() - since >= ms(80) - 3)
  peer.send(close(1001))
  t.equal((await told(socket, 'close'))[2], undefined)
})

t.test('messages of either side keep a connection from being idle', async t => {
  for (const side of ['peer', 'socket'] as const) {
    const { socket, peer } = await connect(t, { idleTimeout: ms(100) })
    socket.readAlways()
    const since = performance.now()
    let last = since
    const talk = setInterval(() => {
      last = performance.now()
      if (side === 'peer') peer.send(text('x'))
      else socket.send('x')
      if (last - since > ms(300)) clearInterval(talk)
    }, ms(15))
    t.teardown(() => clearInterval(talk))
    await peer.until(() => peer.frames.some(frame => frame.startsWith('close')), 'Close')
    t.ok(performance.now() - since >= ms(350), side)
  }
})

t.test('maxLifetime closes with 1001, whatever the connection does', async t => {
  const { socket, peer } = await connect(t, { maxLifetime: ms(100) })
  socket.readAlways()
  const since = performance.now()
  const talk = setInterval(() => peer.send(text('x')), ms(10))
  t.teardown(() => clearInterval(talk))
  t.equal(await peer.next(), 'close 1001 lifetime over')
  clearInterval(talk)
  t.ok(performance.now() - since >= ms(90) - 3)
})

t.test('lifetimes are spread over a tenth', async t => {
  const order: number[] = []
  const lives = [0, 0.5, 0.999].map((random, i) => {
    const mortal = { messages: 0, onIdle: () => {}, onOld: () => void order.push(i) }
    return new Lifetime(mortal, ms(400), random)
  })
  await new Promise(resolve => setTimeout(resolve, ms(450)))
  t.strictSame(order, [2, 1, 0], 'the greater the number, the sooner')
  for (const life of lives) life.stop()
})
