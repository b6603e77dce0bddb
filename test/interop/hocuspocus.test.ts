import { HocuspocusProvider, HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import { Hocuspocus } from '@hocuspocus/server'
import t, { type Test } from 'tap'
import { Doc } from 'yjs'
import { listen, makeApp, Signal } from '../helpers/app.js'
import { converge } from './documents.js'
import { PageSocket } from './page-socket.js'

async function start(t: Test) {
  const { app } = await makeApp(t)
  const stored = new Signal<string>()
  const contexts: unknown[] = []
  const hocuspocus = new Hocuspocus({
    quiet: true,
    debounce: 0,
    onAuthenticate: async ({ token, context, requestParameters }) => {
      contexts.push([context.user, requestParameters.get('room')])
      if (token !== 'good') throw new Error('not you')
    },
    onStoreDocument: async ({ document }) => stored.fire(document.getText('t').toString())
  })
  app.get('/collaboration', { websocket: true }, (socket, request) => {
    hocuspocus.handleConnection(socket, request.raw, { user: 'ada' })
  })
  return { app, hocuspocus, stored, contexts, port: await listen(app) }
}

/** A connection, which carries any number of documents. */
function connect(t: Test, port: number): HocuspocusProviderWebsocket {
  const connection = new HocuspocusProviderWebsocket({
    url: `ws://127.0.0.1:${port}/collaboration?room=1`,
    WebSocketPolyfill: PageSocket,
    delay: 10,
    minDelay: 10
  })
  t.teardown(() => connection.destroy())
  return connection
}

function attach(t: Test, websocketProvider: HocuspocusProviderWebsocket, name: string, token = 'good') {
  const synced = new Signal()
  const refused = new Signal<string>()
  const provider = new HocuspocusProvider({
    websocketProvider,
    name,
    token,
    document: new Doc(),
    onSynced: () => synced.fire(),
    onAuthenticationFailed: ({ reason }) => refused.fire(reason)
  })
  provider.attach()
  t.teardown(() => {
    provider.destroy()
    provider.document.destroy()
  })
  return { provider, document: provider.document, synced, refused }
}

t.test('documents of two connections converge, and are stored', async t => {
  const { app, port, stored, contexts } = await start(t)
  const here = connect(t, port)
  const there = connect(t, port)
  const one = attach(t, here, 'one')
  const other = attach(t, here, 'other')
  const two = attach(t, there, 'one')
  for (const { synced } of [one, other, two]) await synced.wait('sync')
  t.equal(app.websocketServer.clients.size, 2)
  t.strictSame(contexts[0], ['ada', '1'], 'the data of the handshake in the route')
  one.document.getText('t').insert(0, 'a')
  await converge([one.document, two.document], 'a')
  for (let i = 0; i < 500; i++) {
    one.document.getText('t').insert(0, '1')
    two.document.getText('t').insert(two.document.getText('t').length, '2')
  }
  await converge([one.document, two.document], `${'1'.repeat(500)}a${'2'.repeat(500)}`)
  t.equal(other.document.getText('t').toString(), '')
  t.ok(await stored.wait('onStoreDocument'))
})

t.test('a token that is refused gets the refusal of its document', async t => {
  const { port } = await start(t)
  const connection = connect(t, port)
  const refused = attach(t, connection, 'one', 'bad')
  t.equal(await refused.refused.wait('refusal'), 'permission-denied')
  const good = attach(t, connection, 'other')
  await good.synced.wait('another document on the same connection')
})

t.test('a connection that was cut reconnects with the changes made meanwhile', async t => {
  const { app, port } = await start(t)
  const here = connect(t, port)
  const one = attach(t, here, 'one')
  const two = attach(t, connect(t, port), 'one')
  for (const { synced } of [one, two]) await synced.wait('sync')
  const cut = new Signal()
  here.on('close', () => cut.fire())
  for (const socket of app.websocketServer.clients) socket.terminate()
  await cut.wait('close')
  one.document.getText('t').insert(0, 'meanwhile')
  await converge([one.document, two.document], 'meanwhile')
})

t.test('a client that leaves is removed', async t => {
  const { app, hocuspocus, port } = await start(t)
  const connection = connect(t, port)
  const closed = new Signal<number>()
  const one = attach(t, connection, 'one')
  await one.synced.wait('sync')
  for (const socket of app.websocketServer.clients) socket.on('close', code => closed.fire(code))
  t.equal(hocuspocus.getConnectionsCount(), 1)
  connection.disconnect()
  t.equal(await closed.wait('close'), 1005)
  t.equal(hocuspocus.getConnectionsCount(), 0)
})
