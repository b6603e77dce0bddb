// The server of the soak. BUILD is the folder that has the dist of the project, FAULTS the faults to inject.
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import Fastify from 'fastify'
import { BACKLOG, HOST, portOf } from '../../bench/servers/control.js'
import { CLOSE_TIMEOUT, HEARTBEAT, MAX_BUFFERED, MAX_PAYLOAD } from '../settings.js'
import { Book } from './book.js'
import { addBroadcast, subscriptionsOf, watchRooms } from './broadcast.js'
import { installFaults } from './fault.js'
import { Health, handles } from './health.js'
import { addRoutes, numbersOf } from './routes.js'

const {
  default: upgrade,
  prepare,
  MemoryBroker,
  MemoryHub
} = await import(pathToFileURL(join(process.env.BUILD ?? '', 'dist/lib/index.js')).href)

/** Events that must never happen. */
const accidents = { uncaught: /** @type {string[]} */ ([]), warnings: /** @type {string[]} */ ([]) }
for (const event of ['uncaughtException', 'unhandledRejection']) {
  process.on(event, error => accidents.uncaught.push(String(error?.stack ?? error)))
}
process.on('warning', warning => accidents.warnings.push(String(warning.stack ?? warning)))

/** Lines of the log at level error, as `thrown` expects them. */
let errorLines = 0
const stream = new Writable({
  write(_line, _encoding, done) {
    errorLines++
    done()
  }
})

const app = Fastify({ logger: { level: 'error', stream } })
const book = new Book()
const faults = new Set((process.env.FAULTS ?? '').split(',').filter(Boolean))
const context = { book, faults }
const options = {
  heartbeat: HEARTBEAT,
  closeTimeout: CLOSE_TIMEOUT,
  maxPayload: MAX_PAYLOAD,
  maxBufferedAmount: MAX_BUFFERED
}

app.addHook('onRequest', (request, reply, done) => {
  if (numbersOf(request).how === 'denied') reply.code(401).send({ message: 'sign in first' })
  else done()
})
app.addHook('preHandler', (request, _reply, done) => {
  const { delay } = /** @type {Record<string, string>} */ (request.query)
  if (delay === undefined) done()
  else setTimeout(done, Number(delay))
})
app.addHook('onSend', (request, reply, payload, done) => {
  if (reply.statusCode !== 101) book.refuse(numbersOf(request).id, reply.statusCode)
  done(null, payload)
})

/** @type {import('fastify-upgrade').WebSocketServer[]} */
const servers = []
await app.register(async scope => {
  await scope.register(upgrade, options)
  servers.push(scope.websocketServer)
  addRoutes(scope, context)
})
const hub = new MemoryHub()
await app.register(async scope => {
  await scope.register(upgrade, { ...options, broker: new MemoryBroker(hub) })
  servers.push(scope.websocketServer)
  addBroadcast(scope, context, prepare)
})
const seen = { joined: 0, left: 0 }
await app.register(async scope => {
  await scope.register(upgrade, { ...options, broker: new MemoryBroker(hub) })
  await watchRooms(scope.websocketServer, seen)
})

await app.listen({ port: 0, host: HOST, backlog: BACKLOG })
const health = new Health()
const clients = () => servers.reduce((sum, server) => sum + server.clients.size, 0)

const answers = {
  handles: async () => ({
    ...(await handles(app, clients)),
    subscriptions: servers.reduce((sum, server) => sum + subscriptionsOf(server), 0),
    members: seen.joined - seen.left
  }),
  sample: async () => ({ ...book.take(), ...(await health.sample()), clients: clients() }),
  tally: () => {
    const { opened, thrown, responses, responsesExpected } = book
    return { opened, thrown, errorLines, responses, responsesExpected, joined: seen.joined, ...accidents }
  },
  spoil: () => installFaults(faults, app)
}

process.on('message', async (/** @type {{ ask: keyof typeof answers }} */ { ask }) => {
  try {
    process.send?.((await answers[ask]()) ?? {})
  } catch (error) {
    process.send?.({ error: `the server: ${error}` })
  }
})
process.on('disconnect', () => process.exit())
console.log(`listening ${portOf(app.server)}`)
