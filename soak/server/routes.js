import { pipeline, Transform } from 'node:stream'
import { faultyEcho, leak } from './fault.js'

/**
 * @typedef {import('fastify').FastifyInstance} App
 * @typedef {import('fastify').FastifyRequest} Request
 * @typedef {import('fastify-upgrade').WebSocket} WebSocket
 * @typedef {{ book: import('./book.js').Book, faults: ReadonlySet<string> }} Context
 */

const FRESH = { perMessageDeflate: true }
const TAKEOVER = { perMessageDeflate: { serverNoContextTakeover: false, clientNoContextTakeover: false } }

/** @param {Request} request */
export function numbersOf(request) {
  const query = /** @type {Record<string, string>} */ (request.query)
  return { id: Number(query.id), after: Number(query.after), code: Number(query.code), how: query.how }
}

/**
 * A handler that checks each message and sends it back; `hook` runs after each message.
 * @param {Context} context
 * @param {(socket: WebSocket, data: Buffer, isBinary: boolean) => void} [reply]
 * @param {(socket: WebSocket, request: Request, count: number) => unknown} [hook]
 */
export function echoByEvents({ book, faults }, reply = sendBack, hook) {
  return (/** @type {WebSocket} */ socket, /** @type {Request} */ request) => {
    const { id } = numbersOf(request)
    const page = book.open(socket, id)
    leak(faults)
    socket.on('message', (data, isBinary) => {
      page.sequence.acceptMessage(data, isBinary, id)
      if (socket.readyState === socket.OPEN) page.sent++
      reply(socket, data, isBinary)
      return hook?.(socket, request, page.sequence.count)
    })
    return page
  }
}

/**
 * @param {WebSocket} socket
 * @param {Buffer} data
 * @param {boolean} isBinary
 */
function sendBack(socket, data, isBinary) {
  socket.send(data, { binary: isBinary })
}

/**
 * @param {WebSocket} socket
 * @param {Buffer} data
 * @param {boolean} isBinary
 */
function sendInFragments(socket, data, isBinary) {
  const third = Math.ceil(data.length / 3)
  for (let at = 0; at < data.length; at += third) {
    socket.send(data.subarray(at, at + third), { binary: isBinary, fin: at + third >= data.length })
  }
}

/** @param {Context} context */
function echoByLoop({ book }) {
  return async (/** @type {WebSocket} */ socket, /** @type {Request} */ request) => {
    const { id } = numbersOf(request)
    const page = book.open(socket, id)
    for await (const message of socket) {
      const isBinary = typeof message !== 'string'
      page.sequence.acceptMessage(Buffer.from(message), isBinary, id)
      if (socket.readyState === socket.OPEN) page.sent++
      if (!socket.send(message)) await socket.drained()
    }
  }
}

/** @param {Context} context */
function echoByStream({ book }) {
  return (/** @type {WebSocket} */ socket, /** @type {Request} */ request) => {
    const { id } = numbersOf(request)
    const page = book.open(socket, id)
    const check = new Transform({
      objectMode: true,
      transform(message, _encoding, done) {
        page.sequence.acceptMessage(Buffer.from(message), typeof message !== 'string', id)
        page.sent++
        done(null, message)
      }
    })
    const stream = socket.stream({ readableObjectMode: true, decodeStrings: false })
    // A disconnect of the peer is an error for a pipeline.
    pipeline(stream, check, stream, () => {})
  }
}

/** @param {Context} context */
function failing(context) {
  const { book } = context
  const fail = () => {
    book.thrown++
    throw new Error('thrown on purpose')
  }
  const echo = echoByEvents(context, sendBack, (_socket, request, count) => {
    const { how, after } = numbersOf(request)
    if (count !== after) return undefined
    if (how === 'listener') fail()
    return how === 'async listener' ? Promise.resolve().then(fail) : undefined
  })
  return (/** @type {WebSocket} */ socket, /** @type {Request} */ request) => {
    const { how, after } = numbersOf(request)
    echo(socket, request)
    if (how === 'handler') fail()
    return how === 'async handler' ? new Promise(resolve => setTimeout(resolve, after)).then(fail) : undefined
  }
}

/** @param {Context} context */
function closing(context) {
  return echoByEvents(context, sendBack, (socket, request, count) => {
    const { after, code } = numbersOf(request)
    if (count === after) socket.close(code, 'that was all')
  })
}

/**
 * @param {App} app in whose scope the plugin is registered.
 * @param {Context} context
 */
export function addRoutes(app, context) {
  const { book, faults } = context
  const events = echoByEvents(context, faultyEcho(faults, sendBack))
  app.get('/events', { websocket: true }, events)
  app.get('/fragments', { websocket: true }, echoByEvents(context, sendInFragments))
  app.get('/loop', { websocket: true }, echoByLoop(context))
  app.get('/stream', { websocket: true }, echoByStream(context))
  app.get('/deflate', { websocket: FRESH }, echoByEvents(context))
  app.get('/takeover', { websocket: TAKEOVER }, echoByEvents(context))
  app.get('/failing', { websocket: true }, failing(context))
  const onResponse = async () => {
    book.responses++
  }
  app.get('/closing', { websocket: true, onResponse }, (socket, request) => {
    socket.on('close', () => book.responsesExpected++)
    closing(context)(socket, request)
  })
}
