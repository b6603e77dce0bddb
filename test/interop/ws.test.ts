import { once } from 'node:events'
import t from 'tap'
import { WebSocket } from 'ws'
import { listen, makeApp, open, withDeadline } from '../helpers/app.js'
import { play } from './conversation.js'
import { testPeer } from './scenarios.js'

testPeer(t, 'ws', async () => ({
  play: (script, origin) =>
    play(
      class extends WebSocket {
        constructor(url: string, protocols: string[]) {
          super(url, protocols, { origin })
        }
      },
      script
    )
}))

t.test('fragments and control frames of ws', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, socket => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
    socket.on('ping', data => socket.send(`ping ${data}`))
    socket.on('pong', data => socket.send(`pong ${data}`))
  })
  const client = await open(t, await listen(app), '/')
  const { socket } = client
  socket.send('one ', { fin: false })
  socket.ping('p')
  socket.send('two ', { fin: false })
  socket.pong('q')
  socket.send('three', { fin: true })
  const pong = withDeadline(once(socket, 'pong'), 10_000, 'pong')
  t.equal(await client.next(), 'ping p')
  t.equal(await client.next(), 'pong q')
  t.equal(await client.next(), 'one two three')
  t.equal(String((await pong)[0]), 'p')
})

t.test('fragments and control frames to ws', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true }, async socket => {
    socket.send('one ', { fin: false })
    socket.ping('p')
    socket.send('two ', { fin: false })
    socket.send('three')
    const [data] = await once(socket, 'pong')
    socket.send(`pong ${data}`)
  })
  const client = await open(t, await listen(app), '/')
  t.equal(await client.next(), 'one two three')
  t.equal(await client.next(), 'pong p')
})
