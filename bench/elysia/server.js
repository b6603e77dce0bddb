// The echo of servers/messages.js with Elysia, which runs on Bun.
import { Elysia, t } from 'elysia'
import { HOST, listening } from '../servers/control.js'

const properties = {
  id: t.Integer(),
  text: t.String({ maxLength: 500 }),
  tags: t.Optional(t.Array(t.String())),
  at: t.Optional(t.Number())
}

const app = new Elysia()
  .ws('/', {
    body: t.Object({ type: t.Literal('say'), ...properties }),
    response: t.Object({ type: t.String(), ...properties }),
    idleTimeout: 0,
    message(socket, value) {
      socket.send(value)
    }
  })
  .listen({ port: 0, hostname: HOST })

listening(app.server.port)
