// A chat: rooms at ws://localhost:8002/rooms/<room>?name=<name>, in two subprotocols. Run it with `npm start`.
import { createHash, randomUUID, timingSafeEqual } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { fileURLToPath } from 'node:url'
import Fastify, { type FastifyReply, type FastifyRequest, type FastifyServerOptions } from 'fastify'
import upgrade, {
  type FastifyUpgradeOptions,
  type OriginCheck,
  type Position,
  type Presence,
  type TopicPublication,
  type WebSocket
} from 'fastify-upgrade'
import { websocketConsole } from 'fastify-upgrade/console'

// A client that connects again has the position of the last message that it received.
type RoomRequest = FastifyRequest<{
  Params: { room: string }
  Querystring: { name: string; offset?: number; epoch?: string }
}>

// The events that a client gets: as JSON with chat.v2, as a line of text with chat.v1. The messages before the welcome are
// those that the client missed (`recovered`), or the last ones of the room.
type ChatEvent =
  | ({ type: 'welcome'; name: string; returning: boolean; recovered: boolean } & Partial<Position>)
  | { type: 'join' | 'leave'; name: string; names: string[] }
  | (Message & Position)

// A message, as it is published and kept. The time is in milliseconds since 1970.
type Message = { type: 'message'; id: string; name: string; text: string; time: number }

// A name, and the person who has it. A person is the hash of a token that the client made up, or '' without one. Two
// connections with one token, such as a reloaded page and its old connection, are one person.
type Member = { name: string; person: string }

// A client of this process. It has a name and gets events once it has been welcomed.
type Client = Member & { send: (event: ChatEvent) => void }

// A room, as this process sees it: the members in all processes, and the clients of this one.
type Room = { presence: Presence; clients: Map<WebSocket, Client> }

// Milliseconds for which the name of a person who left is reserved. Reservations end with the process: after a restart each
// page requests the name that it had, and the first request wins.
const NAME_KEPT = 120_000
const MAX_NAMES_KEPT = 10_000

// The messages that each room keeps, in the process or in the engine of its broker, and for how many milliseconds.
const HISTORY = { size: 50, ttl: 86_400_000 }

const encode = { 'chat.v1': toLine, 'chat.v2': (event: ChatEvent) => JSON.stringify(event) }
type Version = keyof typeof encode

// What the clients of a version get from a message that was published.
const deliver = {
  'chat.v1': (publication: TopicPublication) => toLine(toMessage(publication)),
  'chat.v2': (publication: TopicPublication) => JSON.stringify(toMessage(publication))
}

// The page is not compiled: it is in examples/ even if this file runs from dist/examples/.
const page = new URL('examples/chat/index.html', import.meta.resolve('fastify-upgrade/package.json'))

// Validated before the handshake is accepted; an invalid name gets 400.
const MAX_NAME = 24
const roomName = { type: 'string', pattern: '^[a-z0-9-]{1,32}$' }
const userName = { type: 'string', maxLength: MAX_NAME, pattern: '^[\\p{L}\\p{N}][\\p{L}\\p{M}\\p{N} _-]*$' }
const schema = {
  params: { type: 'object', properties: { room: roomName } },
  querystring: {
    type: 'object',
    properties: {
      name: userName,
      offset: { type: 'integer', minimum: 0, maximum: Number.MAX_SAFE_INTEGER },
      epoch: { type: 'string', maxLength: 100 }
    },
    required: ['name'],
    dependencies: { offset: ['epoch'], epoch: ['offset'] }
  }
}

// Asks for a password. Browsers send it again for the WebSocket of the page.
function passwordHook(password: string) {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return async ({ headers }: FastifyRequest, reply: FastifyReply) => {
    const credentials = Buffer.from(headers.authorization?.replace(/^Basic /, '') ?? '', 'base64').toString()
    const given = credentials.slice(credentials.indexOf(':') + 1)
    if (timingSafeEqual(digest(given), digest(password))) return
    return reply.code(401).header('www-authenticate', 'Basic realm="console"').send()
  }
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
    history: topic => (topic.endsWith(' messages') ? HISTORY : undefined),
    ...upgradeOptions
  })
  // For operators, at /console.
  const { CONSOLE_PASSWORD } = process.env
  if (CONSOLE_PASSWORD) await app.register(websocketConsole, { onRequest: passwordHook(CONSOLE_PASSWORD) })

  const rooms = new Map<string, Room>()

  // The names of people who left, by room and name; the oldest come first.
  const kept = new Map<string, { person: string; until: number }>()

  /** Keeps the name of a person who left. */
  function keepName(title: string, { name, person }: Member) {
    if (name === '' || person === '') return
    const now = Date.now()
    const key = `${title} ${name}`
    kept.delete(key)
    kept.set(key, { person, until: now + NAME_KEPT })
    for (const [oldest, { until }] of kept) {
      if (until > now && kept.size <= MAX_NAMES_KEPT) break
      kept.delete(oldest)
    }
  }

  /** The wanted name, or one with a number behind it where another person has that. */
  function chooseName(title: string, room: Room, person: string, wanted: string): string {
    const taken = new Set<string>()
    // Clients of this process that are about to become members have their names already.
    for (const other of [...membersOf(room), ...room.clients.values()]) {
      if (!isSamePerson(other.person, person)) taken.add(other.name)
    }
    const isFree = (name: string) => {
      const owner = kept.get(`${title} ${name}`)
      const isKept = owner !== undefined && owner.until > Date.now() && !isSamePerson(owner.person, person)
      return !isKept && !taken.has(name)
    }
    // A person who returns as `Bob 2` becomes `Bob 3`, not `Bob 2 2`.
    const base = wanted.replace(/ \d+$/, '')
    let name = wanted
    for (let n = 2; !isFree(name); n++) name = withSuffix(base, ` ${n}`)
    return name
  }

  /** The room of that name. Its clients are notified of members that join or leave. */
  function openRoom(title: string): Room {
    const presence = app.websocketServer.presence(`${title} members`)
    const room: Room = { presence, clients: new Map() }
    presence.on('join', ({ id, data }) => {
      const { name, person } = toMember(data)
      const isHere = membersOf(room).filter(member => member.name === name).length > 1
      for (const [socket, client] of room.clients) {
        const isClient = socket.presenceId === id
        if (isClient || !isHere) client.send({ type: 'join', name, names: namesIn(room) })
        // Two processes gave two people one name in the same moment. One of the two reconnects and gets another name.
        const isRival = !isClient && client.name === name && !isSamePerson(client.person, person)
        if (isRival && socket.presenceId > id) socket.close(1013, 'another person has this name')
      }
    })
    presence.on('leave', ({ data }) => {
      const member = toMember(data)
      keepName(title, member)
      const names = namesIn(room)
      if (names.includes(member.name)) return // The person has another connection.
      for (const client of room.clients.values()) client.send({ type: 'leave', name: member.name, names })
    })
    rooms.set(title, room)
    return room
  }

  /** Takes a client into the room of its URL until it disconnects. Returns the function that sends its messages. */
  async function enter(socket: WebSocket, request: RoomRequest, version: Version) {
    const title = request.params.room
    const room = rooms.get(title) ?? openRoom(title)
    const client: Client = { name: '', person: personOf(request), send: () => {} }
    room.clients.set(socket, client)
    socket.on('close', () => {
      keepName(title, client)
      room.clients.delete(socket)
      if (room.clients.size > 0) return
      rooms.delete(title)
      room.presence.close()
    })
    // The names of members in other processes have to be known, too.
    await room.presence.ready
    const { person } = client
    const name = chooseName(title, room, person, request.query.name.trimEnd())
    client.name = name
    // Subscribed before the join is announced, so that it misses no answer. Waits for the broker's engine.
    const topic = `${title} messages`
    const { recovered, position } =
      version === 'chat.v1' ? await socket.subscribe(topic) : await catchUp(socket, topic, request.query)
    client.send = event => socket.send(encode[version](event))
    client.send({
      type: 'welcome',
      name,
      returning: visitorOf(request) !== undefined,
      recovered,
      ...position
    })
    void socket.subscribe(`${title} members`, { presence: { name, person } })
    return async (said: string) => {
      // A message is one line, so that it cannot forge a line of chat.v1, and contains no escape codes for terminals.
      const text = said.replace(/[\s\p{Cc}]+/gu, ' ').trim()
      if (text === '') return
      const message: Message = { type: 'message', id: randomUUID(), name, text, time: Date.now() }
      // If it is not stored, the connection closes with 1011: the client does not see it, and may send it again.
      await app.websocketServer.publish(topic, JSON.stringify(message))
    }
  }

  /** Sends what a client has missed since its position, or else the last messages, and then those that follow. */
  async function catchUp(socket: WebSocket, topic: string, { offset, epoch }: RoomRequest['query']) {
    if (offset !== undefined && epoch !== undefined) {
      const subscription = await socket.subscribe(topic, { since: { offset, epoch } })
      if (subscription.recovered) return subscription
      socket.unsubscribe(topic) // The last messages come first.
    }
    const last = await app.websocketServer.history(topic, { limit: HISTORY.size, reverse: true })
    const oldestFirst = [...last.publications].reverse()
    for (const publication of oldestFirst) socket.send(deliver['chat.v2'](publication))
    const { position } = await socket.subscribe(topic, { since: last.position })
    return { recovered: false, position }
  }

  // Two subprotocols, two routes: the offers of the client select one of them.
  const roomOptions = { schema, onRequest: setVisitor }
  const v1 = { ...roomOptions, websocket: { subprotocol: 'chat.v1', deliver: deliver['chat.v1'] } }
  const v2 = { ...roomOptions, websocket: { subprotocol: 'chat.v2', deliver: deliver['chat.v2'] } }

  app.get('/rooms/:room', v1, async (socket, request: RoomRequest) => {
    const say = await enter(socket, request, 'chat.v1')
    for await (const message of socket) {
      if (typeof message !== 'string') return socket.close(1003, 'text only')
      await say(message)
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
      await say(value.text)
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

// A page cannot add a header to a handshake, but it can offer subprotocols: `chat.v2, token.<random text>`. Unlike URLs, they
// are not logged. Other processes and Redis get the hash only.
function personOf({ headers }: FastifyRequest): string {
  const offers = headers['sec-websocket-protocol'] ?? ''
  const token = /(?:^|,)[ \t]*token\.([\w-]{22,64})[ \t]*(?:,|$)/.exec(offers)?.[1]
  return token === undefined ? '' : createHash('sha256').update(token).digest('base64url')
}

function isSamePerson(a: string, b: string): boolean {
  return a !== '' && a === b
}

function membersOf({ presence }: Room): Member[] {
  return Array.from(presence.members.values(), ({ data }) => toMember(data))
}

// The data of a member in another process arrived as JSON.
function toMember(data: unknown): Member {
  if (typeof data !== 'object' || data === null || !('name' in data && 'person' in data)) {
    return { name: '', person: '' }
  }
  return { name: String(data.name), person: String(data.person) }
}

function toMessage({ data, offset, epoch }: TopicPublication): Message & Position {
  return { ...JSON.parse(String(data)), offset, epoch }
}

function namesIn(room: Room): string[] {
  return [...new Set(membersOf(room).map(({ name }) => name))]
}

function withSuffix(name: string, suffix: string): string {
  return (
    Array.from(name)
      .slice(0, MAX_NAME - suffix.length)
      .join('')
      .trimEnd() + suffix
  )
}

// A name contains neither `*` nor `:`, so the beginning of a line identifies its kind.
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
