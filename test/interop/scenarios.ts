import type { Test } from 'tap'
import { listen, makeApp, Signal, withDeadline } from '../helpers/app.js'
import type { Outcome, Script } from './conversation.js'

/** A client under test. */
export interface Peer {
  /** Runs the script in a page of `origin`, if the client has origins. */
  play(script: Script, origin: string): Promise<Outcome>
}

const MIB = 2 ** 20

/** The features that every client has to support with a server of this package. */
export function testPeer(t: Test, name: string, makePeer: (t: Test, port: number) => Promise<Peer>): void {
  t.test(name, async t => {
    const { app } = await makeApp(t, { maxPayload: 6 * MIB })
    let closed = new Signal<string>()
    app.get('/', (_request, reply) => reply.type('text/html').send('<!doctype html><title>Page</title>'))
    app.get('/echo', { websocket: true }, socket => {
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
      socket.on('close', (code, reason) => closed.fire(`${code} ${reason}`.trimEnd()))
    })
    app.get('/chat', { websocket: { subprotocol: ['chat.v1', 'chat.v2'] } }, socket => socket.send('chat'))
    app.get<{ Querystring: { code: string } }>('/closes', { websocket: true }, (socket, { query }) => {
      socket.send('last words')
      socket.close(Number(query.code), 'says the server')
    })
    app.get('/large', { websocket: { maxPayload: 1000 } }, () => {})
    const port = await listen(app)
    const peer = await makePeer(t, port)
    const own = `http://127.0.0.1:${port}`
    const play = (path: string, script: Omit<Script, 'url'>, origin = own): Promise<Outcome> =>
      withDeadline(peer.play({ url: `ws://127.0.0.1:${port}${path}`, ...script }, origin), 30_000, path)

    t.test('text and binary messages are exchanged with every form of length, in order', async t => {
      const sends = ['', 'a', 'žluťoučký kůň 🐎', 0, 1, 125, 126, 'x'.repeat(126), 65_535, 65_536, 'last']
      const { opened, sent, received, closed } = await play('/echo', { sends, close: [1000] })
      t.strictSame(opened, { protocol: '', extensions: '' })
      t.strictSame(received, sent)
      t.strictSame(sent.map(one => one.split(' ').slice(0, 2).join(' ')).slice(0, 4), [
        'text 0',
        'text 1',
        'text 16',
        'binary 0'
      ])
      t.strictSame(closed, { code: 1000, reason: '', wasClean: true })
    })

    t.test('5 MiB', async t => {
      const { sent, received } = await play('/echo', { sends: [5 * MIB, 'é'.repeat(2.5 * MIB)], close: [] })
      t.strictSame(received, sent)
      t.match(sent, [/^binary 5242880 /, /^text 2621440 /])
    })

    t.test('a thousand small messages sent in one tick arrive', async t => {
      const sends = Array.from({ length: 1000 }, (_, i) => `message ${i}`)
      const { sent, received } = await play('/echo', { sends, close: [] })
      t.equal(sent.length, 1000)
      t.strictSame(received, sent)
    })

    t.test("a subprotocol is selected in the client's order", async t => {
      const protocols = ['other', 'chat.v2', 'chat.v1']
      const { opened, closed } = await play('/chat', { protocols, awaits: 1, close: [] })
      t.strictSame(opened, { protocol: 'chat.v2', extensions: '' })
      t.equal(closed.wasClean, true)
    })

    t.test('an unsupported subprotocol is refused', async t => {
      const { opened, closed } = await play('/chat', { protocols: ['other'] })
      t.equal(opened, undefined)
      t.strictSame(closed, { code: 1006, reason: '', wasClean: false })
    })

    t.test('close codes of the client reach the server', async t => {
      for (const [close, ours, theirs] of [
        [[], '1005', { code: 1005, reason: '', wasClean: true }],
        [[1000], '1000', { code: 1000, reason: '', wasClean: true }],
        [[3000, 'done'], '3000 done', { code: 3000, reason: 'done', wasClean: true }],
        [[4999, 'až na věky'], '4999 až na věky', { code: 4999, reason: 'až na věky', wasClean: true }]
      ] as const) {
        closed = new Signal()
        t.strictSame((await play('/echo', { close })).closed, theirs)
        t.equal(await closed.wait('close'), ours)
      }
    })

    t.test('close codes of the server reach the client after its messages', async t => {
      for (const code of [1000, 1001, 1011, 1013, 3000, 4999]) {
        const { received, closed } = await play(`/closes?code=${code}`, {})
        t.equal(received.length, 1)
        t.strictSame(closed, { code, reason: 'says the server', wasClean: true })
      }
    })

    t.test('a message that is too large gets 1009', async t => {
      const { closed } = await play('/large', { sends: [1001] })
      t.strictSame(closed, { code: 1009, reason: 'message too big', wasClean: true })
    })

    t.test('a page of another origin is refused, and a page of the same origin is accepted', async t => {
      const { port: elsewhere } = await otherServer(t)
      const refused = await play('/echo', { close: [] }, `http://127.0.0.1:${elsewhere}`)
      t.equal(refused.opened, undefined)
      t.equal(refused.closed.code, 1006)
      t.ok((await play('/echo', { close: [] }, own)).opened)
    })

    t.test('a path without a WebSocket route is refused', async t => {
      t.equal((await play('/', {})).opened, undefined)
    })
  })
}

/** Serves a page. */
async function otherServer(t: Test): Promise<{ port: number }> {
  const { app } = await makeApp(t)
  app.get('/', (_request, reply) => reply.type('text/html').send('<!doctype html><title>Elsewhere</title>'))
  return { port: await listen(app) }
}
