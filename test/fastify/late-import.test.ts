import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'

// Nothing of lib may be loaded before these applications are created, so the tests import it.

/** An application that was created before anything loaded fastify-upgrade. */
function makeEarly(): {
  app: FastifyInstance
  lines: { level: number; msg: string; err?: { message: string } }[]
} {
  const lines: { level: number; msg: string }[] = []
  const stream = { write: (line: string): void => void lines.push(JSON.parse(line)) }
  return { app: Fastify({ logger: { stream } }), lines }
}

const early = [makeEarly(), makeEarly(), makeEarly()] as const

const MESSAGE =
  'a WebSocket handshake matched an ordinary route; if it is meant to be a WebSocket route, see the error'

async function load(t: Test, { app }: { app: FastifyInstance }) {
  t.teardown(() => app.close())
  const { default: upgrade } = await import('../../lib/index.js')
  const { listen, shake } = await import('../helpers/app.js')
  return { upgrade, listen, shake }
}

t.test(
  'routes declared before the module was loaded cause an error line at a handshake, once per path',
  async t => {
    const [first] = early
    const { app, lines } = first
    Reflect.apply(app.get, app, ['/rooms/:name', { websocket: true }, () => {}])
    const { upgrade, listen, shake } = await load(t, first)
    await app.register(upgrade)
    app.get('/good', { websocket: true }, () => {})
    const port = await listen(app)
    for (const path of ['/good', '/rooms/a', '/rooms/a?b=c', '/nowhere']) await shake(t, port, path)
    const errors = (): typeof lines => lines.filter(({ level }) => level === 50)
    t.match(errors(), [
      {
        msg: MESSAGE,
        err: { message: /GET \/rooms\/a was declared before/, code: 'FST_UPGRADE_ROUTE_BEFORE_PLUGIN' }
      }
    ])
    t.equal(errors().length, 1)
    for (let i = 0; i < 12; i++) t.equal((await shake(t, port, `/rooms/${i}`)).status, 404)
    t.equal(errors().length, 10, 'clients cannot fill the log')
  }
)

t.test('without such routes a handshake to an ordinary route logs no error', async t => {
  const [, second] = early
  const { app, lines } = second
  const { upgrade, listen, shake } = await load(t, second)
  await app.register(upgrade)
  app.get('/ordinary', async () => 'page')
  t.equal((await shake(t, await listen(app), '/ordinary')).status, 404)
  t.strictSame(
    lines.filter(({ level }) => level > 30),
    []
  )
})

t.test('routes declared between the import and the registration are found', async t => {
  const [, , third] = early
  const { upgrade } = await load(t, third)
  await third.app.register(async scope => {
    await scope.register(upgrade)
  })
  Reflect.apply(third.app.get, third.app, ['/outside', { websocket: true }, () => {}])
  await t.rejects(async () => third.app.ready(), { code: 'FST_UPGRADE_ROUTE_OUT_OF_SCOPE' })
})
