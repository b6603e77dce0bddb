import { createRequire } from 'node:module'
import Fastify, { type FastifyInstance, type FastifyPluginCallback } from 'fastify'
import t, { type Test } from 'tap'
import upgrade from '../../lib/index.js'
import { withDeadline } from '../helpers/app.js'

// The types of `@fastify/websocket` and of this package augment the same types of Fastify, so they cannot be used together.
const fastifyWebsocket: FastifyPluginCallback = createRequire(import.meta.url)('@fastify/websocket')

/** The parts of a client that tests written for `@fastify/websocket` use. */
interface Client {
  on(event: string, listener: (...args: never[]) => void): unknown
  once(event: string, listener: (...args: never[]) => void): unknown
  send(data: string): unknown
  terminate(): void
}

type InjectWS = (path?: string, context?: object, options?: object) => Promise<Client>

const plugins: Readonly<Record<string, (app: FastifyInstance) => void>> = {
  '@fastify/websocket': app => void app.register(fastifyWebsocket),
  'fastify-upgrade': app => void app.register(upgrade)
}

for (const [name, register] of Object.entries(plugins)) {
  /** The application: a scope whose hook requires a key, and routes that reply. */
  const build = (t: Test): { app: FastifyInstance; injectWS: InjectWS } => {
    const app = Fastify()
    t.teardown(() => app.close())
    register(app)
    app.register(async scope => {
      scope.addHook('preValidation', async (request, reply) => {
        if (request.headers['api-key'] !== 'secret') return reply.code(401).send()
      })
      for (const path of ['/', '/second']) {
        const handler = (socket: Client): void => {
          socket.on('message', (data: Buffer) => socket.send(`${path} got ${data}`))
        }
        scope.route({ method: 'GET', url: path, websocket: true, handler } as never)
      }
    })
    const injectWS: InjectWS = (...args) => Reflect.apply(Reflect.get(app, 'injectWS'), app, args)
    return { app, injectWS }
  }
  const headers = { 'api-key': 'secret' }

  t.test(`${name}: a message gets its reply`, async t => {
    const { app, injectWS } = build(t)
    await app.ready()
    for (const [path, answer] of [
      [undefined, '/ got hi'],
      ['/second', '/second got hi']
    ] as const) {
      const ws = await injectWS(path, { headers })
      const answered = new Promise(resolve => ws.once('message', (data: Buffer) => resolve(data.toString())))
      ws.send('hi')
      t.equal(await withDeadline(answered, 5_000, 'answer'), answer)
      ws.terminate()
    }
  })

  t.test(`${name}: onInit is called before onOpen, with the client that is returned`, async t => {
    const { app, injectWS } = build(t)
    await app.ready()
    const calls: unknown[] = []
    const ws = await injectWS(
      '/',
      { headers },
      {
        onInit: (ws: Client) => {
          calls.push('init', ws)
          ws.on('open', () => calls.push('open'))
        },
        onOpen: (ws: Client) => calls.push('opened', ws)
      }
    )
    t.equal(calls.length, 5)
    for (const [i, call] of ['init', ws, 'open', 'opened', ws].entries()) t.equal(calls[i], call)
    ws.terminate()
  })

  t.test(`${name}: a refusal rejects injectWS`, async t => {
    const { app, injectWS } = build(t)
    await app.ready()
    await t.rejects(injectWS('/'), new Error('Unexpected server response: 401'))
  })
}
