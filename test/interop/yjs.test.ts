import { docs, setupWSConnection } from '@y/websocket-server/utils'
import t, { type Test } from 'tap'
import { WebsocketProvider } from 'y-websocket'
import { Doc } from 'yjs'
import type { FastifyUpgradeOptions } from '../../lib/index.js'
import { listen, makeApp, open, Signal } from '../helpers/app.js'
import { converge } from './documents.js'
import { PageSocket } from './page-socket.js'

/** The route of an application: documents by name. */
async function start(t: Test, options?: FastifyUpgradeOptions) {
  const { app } = await makeApp(t, options)
  const ended: string[] = []
  app.get<{ Params: { name: string } }>('/docs/:name', { websocket: true }, (socket, request) => {
    const { name } = request.params
    setupWSConnection(socket, request.raw, { docName: name })
    socket.on('close', code => ended.push(`${name} ${code}`))
  })
  // The awareness of each client has a timer.
  t.teardown(() => {
    for (const doc of docs.values()) doc.destroy()
    docs.clear()
  })
  return { app, ended, port: await listen(app) }
}

function connect(t: Test, port: number, name: string, doc = new Doc()): WebsocketProvider {
  const provider = new WebsocketProvider(`ws://127.0.0.1:${port}/docs`, name, doc, {
    WebSocketPolyfill: PageSocket,
    // Otherwise they would exchange data within this process, without the server.
    disableBc: true,
    maxBackoffTime: 10
  })
  t.teardown(() => {
    provider.destroy()
    doc.destroy()
  })
  return provider
}

async function synced(provider: WebsocketProvider): Promise<void> {
  const done = new Signal()
  provider.on('sync', isSynced => isSynced && done.fire())
  if (!provider.synced) await done.wait('sync')
}

t.test('two clients of y-websocket converge', async t => {
  const { port } = await start(t)
  const one = connect(t, port, 'converge')
  const two = connect(t, port, 'converge')
  await Promise.all([synced(one), synced(two)])
  one.doc.getText('t').insert(0, 'a')
  await converge([one.doc, two.doc], 'a')
  two.doc.getText('t').insert(1, 'b')
  await converge([one.doc, two.doc], 'ab')
  for (let i = 0; i < 500; i++) {
    one.doc.getText('t').insert(0, '1')
    two.doc.getText('t').insert(two.doc.getText('t').length, '2')
  }
  await converge([one.doc, two.doc], `${'1'.repeat(500)}ab${'2'.repeat(500)}`)
  const late = connect(t, port, 'converge')
  await converge([late.doc], `${'1'.repeat(500)}ab${'2'.repeat(500)}`)
})

t.test('a document of half a megabyte is synchronized, compressed or not', async t => {
  for (const perMessageDeflate of [false, true]) {
    const { port } = await start(t, { perMessageDeflate })
    const text = 'Lorem ipsum dolor. '.repeat(27_000)
    const name = `large-${perMessageDeflate}`
    const one = connect(t, port, name)
    await synced(one)
    one.doc.getText('t').insert(0, text)
    await converge([one.doc, connect(t, port, name).doc], text)
    one.destroy()
  }
})

t.test('awareness reaches the other clients, and is removed when its client leaves', async t => {
  const { port } = await start(t)
  const one = connect(t, port, 'aware')
  const two = connect(t, port, 'aware')
  await Promise.all([synced(one), synced(two)])
  const seen = new Signal()
  const left = new Signal()
  two.awareness.on('update', ({ removed }: { removed: readonly number[] }) => {
    if (two.awareness.getStates().get(one.doc.clientID)?.name === 'one') seen.fire()
    if (removed.includes(one.doc.clientID)) left.fire()
  })
  one.awareness.setLocalState({ name: 'one' })
  await seen.wait('awareness')
  one.disconnect()
  await left.wait('end of the awareness')
})

t.test('a client that was cut reconnects with its changes made meanwhile', async t => {
  const { app, ended, port } = await start(t)
  const one = connect(t, port, 'back')
  const two = connect(t, port, 'back')
  await Promise.all([synced(one), synced(two)])
  const off = new Signal()
  one.on('status', ({ status }) => status === 'disconnected' && off.fire())
  one.disconnect()
  await off.wait('disconnect')
  one.doc.getText('t').insert(0, 'offline')
  for (const socket of app.websocketServer.clients) socket.terminate()
  one.connect()
  await converge([one.doc, two.doc], 'offline')
  t.ok(ended.includes('back 1006'))
})

t.test('an invalid message of a client does not affect other clients', async t => {
  const { port } = await start(t)
  t.capture(console, 'error')
  const client = await open(t, port, '/docs/odd')
  client.socket.send(Buffer.from([0, 99, 1]))
  const one = connect(t, port, 'odd')
  one.doc.getText('t').insert(0, 'well')
  await converge([one.doc, connect(t, port, 'odd').doc], 'well')
})
