// A chat: rooms at ws://localhost:8002/rooms/<room>?name=<name>, in two subprotocols. Run it with `npm start`.
import { randomUUID } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { fileURLToPath } from 'node:url'
import Fastify, { type FastifyReply, type FastifyRequest, type FastifyServerOptions } from 'fastify'
import upgrade, {
  type FastifyUpgradeOptions,
  type OriginCheck,
  type Presence,
  type WebSocket
} from 'fastify-upgrade'

type RoomRequest = FastifyRequest<{ Params: { room: string }; Querystring: { name: string } }>

// What the server tells a client: chat.v2 sends it as JSON, chat.v1 as a line of text.
type ChatEvent =
  | { type: 'welcome'; name: string; returning: boolean }
  | { type: 'join' | 'leave'; name: string; names: string[] }
  | { type: 'message'; name: string; text: string }

// A room, as this process sees it: who is there in all processes, and how to tell its own clients something.
type Room = { presence: Presence; clients: Map<WebSocket, (event: ChatEvent) => void> }

// Each version has a topic of its own in a room, as each is sent something else.
const versions = ['chat.v1', 'chat.v2'] as const
type Version = (typeof versions)[number]
const encode: Record<Version, (event: ChatEvent) => string> = {
  'chat.v1': toLine,
  'chat.v2': event => JSON.stringify(event)
}

// The page is not compiled: it stays in examples/ also when this file runs from dist/examples/.
const page = new URL('examples/chat/index.html', import.meta.resolve('fastify-upgrade/package.json'))

// Checked before the handshake is accepted; what does not fit gets 400.
const roomName = { type: 'string', pattern: '^[a-z0-9-]{1,32}$' }
const userName = { type: 'string', pattern: '^[\\p{L}\\p{N}][\\p{L}\\p{M}\\p{N} _-]{0,23}$' }
const schema = {
  params: { type: 'object', properties: { room: roomName } },
  querystring: { type: 'object', properties: { name: userName }, required: ['name'] }
}

// `upgradeOptions` has a broker where there is more than one process: see examples/scale.
export async function buildChat(
  options: FastifyServerOptions = {},
  upgradeOptions: FastifyUpgradeOptions = {}
) {
  // Browsers keep idle HTTP connections, which would delay `app.close()`. WebSockets still get a proper close.
  const app = Fastify({ forceCloseConnections: true, ...options })
  await app.register(upgrade, {
    maxPayload: 4096, // a longer message closes its connection with 1009
    maxBufferedAmount: 1_048_576, // a client that does not read is cut, so that it cannot fill our memory
    shutdown: { reason: 'the server is stopping', timeout: 2000 },
    ...upgradeOptions
  })

  const rooms = new Map<string, Room>()

  /** The room of that name, whose members are told who comes and goes. */
  function openRoom(name: string): Room {
    const presence = app.websocketServer.presence(`${name} members`)
    const room: Room = { presence, clients: new Map() }
    for (const type of ['join', 'leave'] as const) {
      presence.on(type, ({ data }) => {
        for (const tell of room.clients.values()) tell({ type, name: String(data), names: namesIn(room) })
      })
    }
    rooms.set(name, room)
    return room
  }

  /** Takes a client into the room of its URL until it disconnects. Returns what speaks in the room. */
  async function enter(socket: WebSocket, request: RoomRequest, version: Version) {
    const title = request.params.room
    const room = rooms.get(title) ?? openRoom(title)
    // Told nothing before it is welcome.
    room.clients.set(socket, () => {})
    socket.on('close', () => {
      room.clients.delete(socket)
      if (room.clients.size > 0) return
      rooms.delete(title)
      room.presence.close()
    })
    // Those of other processes, too.
    await room.presence.ready
    const names = new Set(namesIn(room))
    const wanted = request.query.name.trimEnd()
    let name = wanted
    for (let n = 2; names.has(name); n++) name = `${wanted} ${n}`

    const tell = (event: ChatEvent) => socket.send(encode[version](event))
    if (room.clients.has(socket)) room.clients.set(socket, tell)
    tell({ type: 'welcome', name, returning: visitorOf(request) !== undefined })
    // It hears the others before they hear of it. While a broker is away it hears those of its own process.
    await socket.subscribe(`${title} ${version}`).catch(() => {})
    void socket.subscribe(`${title} members`, { presence: name })
    return (said: string) => {
      // One line each, so that nobody forges a line of chat.v1, and no escape codes for terminals.
      const text = said.replace(/[\s\p{Cc}]+/gu, ' ').trim()
      if (text === '') return
      for (const version of versions) {
        void app.websocketServer.publish(
          `${title} ${version}`,
          encode[version]({ type: 'message', name, text })
        )
      }
    }
  }

  // Two subprotocols, two routes: what the client offers decides which one it gets.
  const roomOptions = { schema, onRequest: setVisitor }
  const v1 = { ...roomOptions, websocket: { subprotocol: 'chat.v1' } }
  const v2 = { ...roomOptions, websocket: { subprotocol: 'chat.v2' } }

  app.get('/rooms/:room', v1, async (socket, request: RoomRequest) => {
    const say = await enter(socket, request, 'chat.v1')
    for await (const message of socket) {
      if (typeof message !== 'string') return socket.close(1003, 'text only')
      say(message)
    }
  })

  app.get('/rooms/:room', v2, async (socket, request: RoomRequest) => {
    const say = await enter(socket, request, 'chat.v2')
    for await (const message of socket) {
      if (typeof message !== 'string') return socket.close(1003, 'text only')
      let value: unknown
      try {
        value = JSON.parse(message)
      } catch {
        return socket.close(1007, 'not JSON')
      }
      if (!isChatMessage(value)) return socket.close(1008, 'expected { "type": "message", "text": "…" }')
      say(value.text)
    }
  })

  // An ordinary GET of the same URL is a route of its own: it gets the page.
  for (const url of ['/', '/rooms/:room']) {
    app.get(url, (_request, reply) => reply.type('text/html; charset=utf-8').send(createReadStream(page)))
  }

  // For any WebSocket client: an echo. Pages of this server may connect, and those of one other origin.
  const origin: OriginCheck = (origin, { protocol, host }) =>
    origin === 'http://localhost:63342' || origin === `${protocol}://${host}`
  app.get('/chatsocket', { websocket: { origin } }, socket => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
  return app
}

// A hook: the cookie goes out with the 101. JavaScript cannot read it. Over HTTPS, add `Secure`.
async function setVisitor(request: FastifyRequest, reply: FastifyReply) {
  const visitor = visitorOf(request) ?? randomUUID()
  reply.header('set-cookie', `visitor=${visitor}; Path=/rooms; Max-Age=31536000; HttpOnly; SameSite=Strict`)
}

function visitorOf(request: FastifyRequest): string | undefined {
  return /(?:^|; )visitor=([0-9a-f-]{36})(?:;|$)/.exec(request.headers.cookie ?? '')?.[1]
}

function namesIn({ presence }: Room): string[] {
  return Array.from(presence.members.values(), ({ data }) => String(data))
}

// A name has neither `*` nor `:` in it, so how a line begins tells what it is.
function toLine(event: ChatEvent): string {
  if (event.type === 'message') return `${event.name}: ${event.text}`
  if (event.type === 'welcome') return `* welcome${event.returning ? ' back' : ''}, ${event.name}`
  return `* ${event.name} ${event.type === 'join' ? 'joined' : 'left'}, here: ${event.names.join(', ')}`
}

function isChatMessage(value: unknown): value is { type: 'message'; text: string } {
  if (typeof value !== 'object' || value === null || !('type' in value && 'text' in value)) return false
  return value.type === 'message' && typeof value.text === 'string'
}

// When this file is run, and not imported.
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { PORT = '8002', HOST = 'localhost' } = process.env
  const app = await buildChat({ logger: { level: 'warn' } })
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => app.close())
  const { port } = new URL(await app.listen({ port: Number(PORT), host: HOST }))
  console.log(`Chat on http://${HOST}:${port} (Ctrl-C stops it)`)
}
