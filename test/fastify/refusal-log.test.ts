import t from 'tap'
import { listen, makeApp, open, shake, WARN } from '../helpers/app.js'

t.test('handshakes that a connection limit refuses are logged once a second, with their number', async t => {
  const { app, log } = await makeApp(t, { maxConnections: 1 })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  await open(t, port, '/')
  const line = 'WebSocket handshakes refused: too many connections'
  const counts = (): unknown[] => log.with(line).map(({ count }) => count)
  for (let i = 0; i < 5; i++) t.equal((await shake(t, port, '/')).status, 503)
  t.equal(counts()[0], 1, 'the first is logged at once')
  while (counts().reduce((sum: number, count) => sum + Number(count), 0) < 5)
    await new Promise(resolve => log.once('line', resolve))
  t.ok(counts().length < 5, 'the others share lines')
  const [first] = log.with(line)
  t.match(first, { level: WARN, code: 'FST_UPGRADE_TOO_MANY_CONNECTIONS' })
  t.strictSame(
    log.lines.filter(({ err }) => err !== undefined),
    [],
    'the errors have no lines of their own'
  )
  t.equal(log.with('request completed').length, 0)
})
