import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { runInNewContext } from 'node:vm'
import t, { type Test } from 'tap'
import { WebSocket } from 'undici'
import { listen, makeApp } from './helpers/app.js'
import { root } from './helpers/root.js'
import { withDeadline } from './helpers/timeout.js'

const guide = readFileSync(join(root, 'docs', 'guides', 'reconnecting.md'), 'utf8')
const [, snippet = ''] = /```js\n(const url = [\s\S]*?)```/.exec(guide) ?? []

/** The action of the server on a connection: a close with or without a code, a cut, or a refusal. */
type Ending = number | 'cut' | 'refuse'

/** Runs the client of the guide against a server until it stops. The clock stands still while a connection is open. */
async function play(t: Test, endings: readonly Ending[], openFor: (n: number) => number = () => 0) {
  const delays: number[] = []
  let now = 0
  let handshakes = 0
  const { app } = await makeApp(t)
  app.addHook('onRequest', async (_request, reply) => {
    if (endings[handshakes++] === 'refuse') return reply.code(403).send()
  })
  app.get('/news', { websocket: true }, async socket => {
    const n = handshakes - 1
    const ending = endings[n]
    socket.send(String(n))
    await once(shown, String(n))
    now += openFor(n)
    if (ending === 'cut') socket.terminate()
    else socket.close(ending === 1005 ? undefined : Number(ending))
  })
  const url = `ws://127.0.0.1:${await listen(app)}/news`
  const shown = new EventTarget()
  const stopped = new Promise<number>(stop => {
    runInNewContext(snippet, {
      WebSocket: class extends WebSocket {
        constructor(target: string) {
          t.equal(target, 'wss://app.example.com/news')
          super(url)
        }
      },
      performance: { now: () => now },
      Math: { min: Math.min, random: () => 0.5 },
      setTimeout: (connect: () => void, delay: number) => {
        delays.push(delay)
        setImmediate(connect)
      },
      show: (data: string) => shown.dispatchEvent(new Event(data)),
      stop
    })
  })
  const code = await withDeadline(stopped, 20_000, 'the end of the client')
  return { code, delays, handshakes }
}

t.test('docs/guides/reconnecting.md: the client reconnects after a random delay that grows', async t => {
  const endings: Ending[] = [1001, 'cut', 1011, 1012, 1013, 1014, 'refuse', 'cut', 1001, 1001, 4401]
  // The ninth connection stays open for a while.
  const { code, delays, handshakes } = await play(t, endings, n => (n === 8 ? 10_001 : 0))
  t.equal(code, 4401)
  t.equal(handshakes, endings.length)
  t.strictSame(delays, [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000, 500, 1000])
})

t.test('docs/guides/reconnecting.md: the client stops when the server has rejected it', async t => {
  for (const ending of [1000, 1002, 1003, 1005, 1007, 1008, 1009, 3000, 4000, 4401, 4999]) {
    t.strictSame(await play(t, [ending]), { code: ending, delays: [], handshakes: 1 }, String(ending))
  }
})
