// A board of notes that its visitors write and move together. Its messages have schemas, from which come the validation, the
// types and the documentation at /asyncapi. Run it with `npm run start:typed`.
import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import Fastify, { type FastifyServerOptions } from 'fastify'
import upgrade, { type WebSocket } from 'fastify-upgrade'
import asyncapi from 'fastify-upgrade/asyncapi'
import { type Static, Type } from 'typebox'

// Everything that a visitor can make grow has a limit.
const MAX_BOARDS = 100
const MAX_NOTES = 50

// The page is not compiled: it is in examples/ even if this file runs from dist/examples/.
const page = new URL('examples/typed/index.html', import.meta.resolve('fastify-upgrade/package.json'))

const id = Type.String({ minLength: 1, maxLength: 36, description: 'The identifier of a note' })
const text = Type.String({ minLength: 1, maxLength: 140 })
const color = Type.Enum(['yellow', 'green', 'blue', 'pink'], { type: 'string' })
// A place on the board, so that the size of the page does not matter.
const x = Type.Number({ minimum: 0, maximum: 1, description: 'From the left edge, as a part of the width' })
const y = Type.Number({ minimum: 0, maximum: 1, description: 'From the top edge, as a part of the height' })
const note = Type.Object({ id, text, color, x, y })

type Note = Static<typeof note>

const add = Type.Object(
  { type: Type.Literal('add'), text, color, x, y },
  {
    title: 'Add a note',
    examples: [{ type: 'add', text: 'hello', color: 'green', x: 0.5, y: 0.5 }]
  }
)
const move = Type.Object({ type: Type.Literal('move'), id, x, y }, { title: 'Move a note' })
const remove = Type.Object({ type: Type.Literal('remove'), id }, { title: 'Remove a note' })

const board = Type.Object(
  { type: Type.Literal('board'), notes: Type.Array(note), people: Type.Integer() },
  { title: 'The board, as the first message' }
)
const added = Type.Object({ type: Type.Literal('added'), note }, { title: 'A note was added' })
const moved = Type.Object({ type: Type.Literal('moved'), id, x, y }, { title: 'A note was moved' })
const removed = Type.Object({ type: Type.Literal('removed'), id }, { title: 'A note was removed' })
const people = Type.Object(
  { type: Type.Literal('people'), people: Type.Integer() },
  { title: 'The number of visitors has changed' }
)
const refused = Type.Object(
  { type: Type.Literal('refused'), reason: Type.String() },
  { title: 'A message was refused' }
)

const receive = Type.Union([add, move, remove])
const send = Type.Union([board, added, moved, removed, people, refused])

type Receive = Static<typeof receive>
type Send = Static<typeof send>
type Visitor = WebSocket<Receive, Send>

/** The notes and the visitors of a board. */
interface Board {
  readonly notes: Map<string, Note>
  readonly visitors: Set<Visitor>
}

export async function buildBoard(options: FastifyServerOptions = {}) {
  const app = Fastify({ forceCloseConnections: true, ...options }).withTypeProvider<TypeBoxTypeProvider>()
  await app.register(upgrade, { maxPayload: 4096, rateLimit: { messages: 200 }, shutdown: { timeout: 2000 } })
  await app.register(asyncapi, {
    info: {
      title: 'Board',
      version: '1.0.0',
      description: 'Notes that the visitors of a board write and move together.'
    },
    routePrefix: '/asyncapi'
  })

  const boards = new Map<string, Board>()

  const schema = {
    summary: 'The notes of a board',
    description: 'The first message is the whole board. A visitor gets the changes that other visitors make.',
    params: Type.Object({
      name: Type.String({
        pattern: '^[a-z0-9-]{1,32}$',
        description: 'The name of the board',
        examples: ['demo']
      })
    }),
    receive,
    send
  }

  app.get(
    '/boards/:name',
    {
      websocket: {
        invalidMessage: (error, socket) => socket.send({ type: 'refused', reason: error.message })
      },
      schema
    },
    async (socket, { params: { name } }) => {
      const here = boards.get(name) ?? open(name)
      if (here === undefined) return socket.close(1013, 'too many boards')
      const topic = `board ${name}`
      here.visitors.add(socket)
      socket.on('close', () => {
        here.visitors.delete(socket)
        socket.publish(topic, { type: 'people', people: here.visitors.size })
      })
      socket.send({ type: 'board', notes: [...here.notes.values()], people: here.visitors.size })
      await socket.subscribe(topic)
      socket.publish(topic, { type: 'people', people: here.visitors.size })
      for await (const message of socket) {
        const change = apply(here, message)
        if (change.type === 'refused') {
          socket.send(change)
          continue
        }
        // The others get it, and the visitor who adds a note needs its identifier.
        socket.publish(topic, change)
        if (change.type === 'added') socket.send(change)
      }
    }
  )

  /** A new board, in place of one without visitors if there are too many. */
  function open(name: string): Board | undefined {
    if (boards.size >= MAX_BOARDS) {
      const [left] = [...boards].find(([, { visitors }]) => visitors.size === 0) ?? []
      if (left === undefined) return undefined
      boards.delete(left)
    }
    const opened: Board = { notes: new Map(), visitors: new Set() }
    boards.set(name, opened)
    return opened
  }

  app.get('/', { schema: { hide: true } }, (_request, reply) => reply.redirect('/boards/demo'))
  app.get('/boards/:name', { schema: { params: schema.params, hide: true } }, (_request, reply) =>
    reply.type('text/html; charset=utf-8').send(createReadStream(page))
  )
  return app
}

/** Changes a board as a message of a visitor says, and returns the message for the visitors. */
function apply({ notes }: Board, message: Receive): Exclude<Send, { type: 'board' | 'people' }> {
  if (message.type === 'add') {
    if (notes.size >= MAX_NOTES) return { type: 'refused', reason: `a board has at most ${MAX_NOTES} notes` }
    const { type: _, ...rest } = message
    const note = { id: randomUUID(), ...rest }
    notes.set(note.id, note)
    return { type: 'added', note }
  }
  const known = notes.get(message.id)
  if (known === undefined) return { type: 'refused', reason: 'there is no such note' }
  if (message.type === 'remove') {
    notes.delete(message.id)
    return { type: 'removed', id: message.id }
  }
  notes.set(message.id, { ...known, x: message.x, y: message.y })
  return { type: 'moved', id: message.id, x: message.x, y: message.y }
}

// When this file is run, and not imported.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { PORT = '8003', HOST = 'localhost' } = process.env
  const app = await buildBoard({ logger: { level: 'warn' } })
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => app.close())
  const { port } = new URL(await app.listen({ port: Number(PORT), host: HOST }))
  console.log(
    `Board on http://${HOST}:${port}, its documentation on http://${HOST}:${port}/asyncapi (Ctrl-C stops it)`
  )
}
