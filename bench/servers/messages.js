// An echo of validated JSON: with schemas on a route, the same by hand on a route without schemas, or by hand on `ws`.
import { Ajv } from 'ajv'
import Fastify from 'fastify'
import upgrade from 'fastify-upgrade'
import { WebSocketServer } from 'ws'
import { BACKLOG, HOST, listening, portOf } from './control.js'

const properties = {
  id: { type: 'integer' },
  text: { type: 'string', maxLength: 500 },
  tags: { type: 'array', items: { type: 'string' } },
  at: { type: 'number' }
}
const receive = {
  type: 'object',
  properties: { type: { const: 'say' }, ...properties },
  required: ['type', 'id', 'text']
}
const send = {
  type: 'object',
  properties: { type: { type: 'string' }, ...properties },
  required: ['id', 'text']
}
// As Fastify sets it up.
const validate = new Ajv({ coerceTypes: 'array', useDefaults: true, removeAdditional: true }).compile(receive)

/** @param {{ send(text: string): unknown, close(code: number): void }} socket */
const echo = socket => (/** @type {Buffer} */ data) => {
  const value = JSON.parse(data.toString())
  if (validate(value)) socket.send(JSON.stringify(value))
  else socket.close(1007)
}

const [, , kind] = process.argv
if (kind === 'ws') {
  const server = new WebSocketServer({ port: 0, host: HOST, backlog: BACKLOG, perMessageDeflate: false })
  server.on('connection', socket => socket.on('message', echo(socket)))
  server.on('listening', () => {
    const address = server.address()
    if (address !== null && typeof address === 'object') listening(address.port)
  })
} else {
  const app = Fastify()
  await app.register(upgrade)
  if (kind === 'schemas') {
    app.get('/', { websocket: true, schema: { receive, send } }, socket => {
      socket.on('message', value => socket.send(value))
    })
  } else {
    app.get('/', { websocket: true }, socket => {
      socket.on('message', echo(socket))
    })
  }
  await app.listen({ port: 0, host: HOST, backlog: BACKLOG })
  listening(portOf(app.server))
}
