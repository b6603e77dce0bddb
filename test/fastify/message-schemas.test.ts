import { once } from 'node:events'
import type { FastifyInstance } from 'fastify'
import { serializerCompiler } from 'fastify-type-provider-zod'
import t, { type Test } from 'tap'
import { z } from 'zod'
import { type Message, prepare, type WebSocket } from '../../lib/index.js'
import {
  connectRaw,
  DEBUG,
  ERROR,
  handshake,
  listen,
  makeApp,
  open,
  Signal,
  text,
  tick,
  withDeadline
} from '../helpers/app.js'

const SAY = {
  type: 'object',
  required: ['text'],
  additionalProperties: false,
  properties: { text: { type: 'string', maxLength: 5 }, times: { type: 'integer', default: 1 } }
}
const SAID = {
  type: 'object',
  required: ['from'],
  properties: { from: { type: 'string' }, text: { type: 'string' } }
}

/** A client of a route of an application that is ready, in memory. */
async function connect(t: Test, app: FastifyInstance, path = '/') {
  const client = await app.injectWS(path)
  t.teardown(() => client.terminate())
  const messages = client[Symbol.asyncIterator]()
  return {
    client,
    next: async (): Promise<unknown> => {
      const { value } = await withDeadline(messages.next(), 10_000, 'a message')
      return typeof value === 'string' ? JSON.parse(value) : value
    },
    closed: async (): Promise<string> => {
      const [code, reason] = await withDeadline(once(client, 'close'), 10_000, 'the close')
      return `${code} ${reason}`
    }
  }
}

/** The values that a route gets for messages, and its answers to invalid ones. */
async function receive(t: Test, receive: unknown, options = {}) {
  const { app, log } = await makeApp(t)
  app.get(
    '/',
    {
      websocket: { invalidMessage: ({ message }, socket) => socket.send(JSON.stringify({ message })) },
      schema: { receive },
      ...options
    },
    socket => {
      socket.on('message', value => socket.send(JSON.stringify({ value })))
    }
  )
  const { client, next } = await connect(t, app)
  return {
    app,
    log,
    async valueFor(message: string | Buffer): Promise<unknown> {
      client.send(message)
      return next()
    }
  }
}

// ---- receiving

t.test('listeners, the iterator and events get the parsed and validated value', async t => {
  const { app } = await makeApp(t)
  const values: unknown[] = []
  app.get('/', { websocket: true, schema: { receive: SAY } }, async socket => {
    socket.on('message', (value, isBinary) => values.push(['listener', value, isBinary]))
    socket.addEventListener('message', ({ data }) => values.push(['event', data]))
    for await (const value of socket) values.push(['iterator', value])
  })
  const { client, closed } = await connect(t, app)
  client.send('{"text":"hi"}')
  client.send('{"text":"yo","times":"2","other":true}')
  client.close()
  await closed()
  // Fastify's own options of Ajv: coercion, defaults, and undeclared properties are removed.
  for (const value of [
    { text: 'hi', times: 1 },
    { text: 'yo', times: 2 }
  ])
    t.strictSame(values.splice(0, 3).sort(), [
      ['event', value],
      ['iterator', value],
      ['listener', value, false]
    ])
})

t.test('a stream has the bytes of the messages, and what is written to it leaves as it is', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true, schema: { receive: SAY, send: SAID } }, socket => {
    const stream = socket.stream()
    stream.pipe(stream)
  })
  const { client, next } = await connect(t, app)
  client.send('not JSON')
  t.strictSame(await next(), Buffer.from('not JSON'))
})

t.test('a root value is coerced, as a property is', async t => {
  const { valueFor } = await receive(t, { type: 'integer' })
  t.strictSame(await valueFor('"7"'), { value: 7 })
  t.strictSame(await valueFor('"x"'), { message: 'body must be integer' })
})

t.test('an invalid message closes with 1007, with one line at debug level', async t => {
  for (const [message, validation] of [
    ['{"text":', undefined],
    ['', undefined],
    ['{"text":"too long"}', ['maxLength']],
    ['{"__proto__":{"text":"hi"},"text":"hi"}', undefined],
    ['{"constructor":{"prototype":{}},"text":"hi"}', undefined]
  ] as const) {
    const { app, log } = await makeApp(t)
    const errors = new Signal<Error>()
    const values: unknown[] = []
    app.get('/', { websocket: true, schema: { receive: SAY } }, async socket => {
      socket.on('error', error => errors.fire(error))
      for await (const value of socket) values.push(value)
    })
    const { client, closed } = await connect(t, app)
    client.send(message)
    client.send('{"text":"late"}')
    t.equal(await closed(), '1007 invalid message', message)
    const error: unknown = await errors.wait('the error')
    t.match(error, {
      code: 'FST_UPGRADE_INVALID_MESSAGE',
      statusCode: 400,
      closeCode: 1007,
      validationContext: 'body'
    })
    const faults: unknown = Reflect.get(Object(error), 'validation')
    t.strictSame(Array.isArray(faults) ? faults.map(({ keyword }) => keyword) : faults, validation)
    t.equal(log.at(DEBUG).filter(({ msg }) => msg === 'the WebSocket failed').length, 1)
    t.strictSame(log.at(ERROR), [])
    t.strictSame(values, [], 'no later message is delivered')
  }
})

t.test('a binary message closes with 1003', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true, schema: { receive: {} } }, () => {})
  const { client, closed } = await connect(t, app)
  client.send(Buffer.from('{}'))
  t.equal(await closed(), '1003 binary message')
})

t.test('onProtoPoisoning and onConstructorPoisoning of the application apply', async t => {
  const { app } = await makeApp(t, {}, { onProtoPoisoning: 'remove', onConstructorPoisoning: 'ignore' })
  app.get('/', { websocket: true, schema: { receive: {} } }, socket => {
    socket.on('message', value => socket.send(JSON.stringify(Object.getOwnPropertyNames(value))))
  })
  const { client, next } = await connect(t, app)
  client.send('{"__proto__":{"a":1},"constructor":{"prototype":{}},"b":1}')
  t.strictSame(await next(), ['constructor', 'b'])
})

t.test('nesting deeper than 512 levels is invalid, whatever the schema says', async t => {
  const { valueFor } = await receive(t, {
    $id: 'tree',
    anyOf: [
      { type: 'array', items: { $ref: '#' } },
      { type: 'object', additionalProperties: { $ref: '#' } }
    ]
  })
  const list = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)
  const object = (depth: number): string => `${'{"a":'.repeat(depth - 1)}{}${'}'.repeat(depth - 1)}`
  for (const json of [list(512), object(512), `[${'{},'.repeat(1000)}[]]`])
    t.match(await valueFor(json), { value: {} }, json.slice(0, 20))
  const message = 'body must not have more than 512 levels of objects and arrays'
  for (const json of [list(513), object(513), list(100_000), '['.repeat(100_000), object(100_000)])
    t.strictSame(await valueFor(json), { message }, json.slice(0, 20))
})

t.test('a message that overflows the stack of the validator is invalid', async t => {
  // Ajv makes a list of a scalar for a schema of lists, and a list in it for the items, and so on.
  const { valueFor } = await receive(t, { $id: 'lists', type: 'array', items: { $ref: '#' } }, {})
  for (const json of ['1', '[[""]]'])
    t.strictSame(await valueFor(json), { message: 'body is too complex for its schema' }, json)
  t.strictSame(await valueFor('[[]]'), { value: [[]] })
})

t.test('brackets in strings are no levels', async t => {
  const { valueFor } = await receive(t, { type: 'array', items: { type: 'string' } })
  const value = ['['.repeat(2000), `"\\${'{'.repeat(2000)}`, '\\']
  t.strictSame(await valueFor(JSON.stringify(value)), { value })
})

t.test(
  'invalidMessage may answer and keep the connection; later messages are delivered in order',
  async t => {
    const { app } = await makeApp(t)
    const done = new Signal()
    app.get(
      '/',
      {
        websocket: {
          async invalidMessage(error, socket, request) {
            await done.promise
            socket.send(JSON.stringify([this === app, error.code, error.message, error.value, request.url]))
          }
        },
        schema: { receive: SAY }
      },
      async socket => {
        for await (const value of socket) socket.send(JSON.stringify(value))
      }
    )
    const { client, next } = await connect(t, app)
    client.send('{"text":"1"}')
    client.send('{"text":1e400,"x":[]')
    client.send('{}')
    client.send(Buffer.from('x'))
    client.send('{"text":"2"}')
    t.strictSame(await next(), { text: '1', times: 1 })
    t.strictSame(await next(), { text: '2', times: 1 })
    done.fire()
    const code = 'FST_UPGRADE_INVALID_MESSAGE'
    t.strictSame(await next(), [true, code, 'body must be valid JSON', '{"text":1e400,"x":[]', '/'])
    t.strictSame(await next(), [true, code, "body must have required property 'text'", { times: 1 }, '/'])
    t.strictSame(await next(), [
      true,
      code,
      'body must be JSON, but it is binary',
      { type: 'Buffer', data: [120] },
      '/'
    ])
  }
)

t.test('asynchronous answers to invalid messages hold reading back', async t => {
  const done = new Signal()
  let calls = 0
  const { app } = await makeApp(t, {
    maxPendingMessages: 2,
    async invalidMessage(_error, socket) {
      calls++
      await done.promise
      socket.send(JSON.stringify(calls))
    }
  })
  app.get('/', { websocket: true, schema: { receive: SAY } }, () => {})
  const { client, next } = await connect(t, app)
  for (let i = 0; i < 5; i++) client.send('{}')
  await tick()
  t.equal(calls, 2)
  done.fire()
  for (let i = 0; i < 5; i++) await next()
  t.equal(calls, 5)
})

t.test('a string longer than maxLength is refused without a test of its pattern', async t => {
  const { valueFor } = await receive(t, { type: 'string', maxLength: 100, pattern: '^(a+)+$' })
  const message = 'body must NOT have more than 100 characters'
  t.strictSame(await valueFor(JSON.stringify(`${'a'.repeat(100)}!`)), { message })
})

t.test('invalidMessage of the plugin applies to its routes, and errors in it go to errorHandler', async t => {
  const errors: unknown[] = []
  let isAsync = false
  const { app } = await makeApp(t, {
    invalidMessage() {
      if (isAsync) return Promise.reject(new Error('async'))
      throw new Error('sync')
    },
    errorHandler: ({ message }, socket) => {
      errors.push(message)
      socket.send(JSON.stringify(message))
    }
  })
  app.get('/', { websocket: true, schema: { receive: SAY } }, () => {})
  const { client, next } = await connect(t, app)
  client.send('1')
  t.equal(await next(), 'sync')
  isAsync = true
  client.send('1')
  t.equal(await next(), 'async')
})

t.test(
  'a listener that throws gets to errorHandler, and reading waits for asynchronous listeners',
  async t => {
    const { app } = await makeApp(t, {
      maxPendingMessages: 1,
      errorHandler: ({ message }, socket) => socket.send(JSON.stringify(message))
    })
    const done = new Signal()
    const seen: unknown[] = []
    app.get('/', { websocket: true, schema: { receive: {} } }, socket => {
      socket.on('message', value => {
        seen.push(value)
        if (value === 1) return done.promise
        throw new Error('no')
      })
    })
    const { client, next } = await connect(t, app)
    client.send('1')
    client.send('2')
    client.send('"last"')
    await tick()
    t.strictSame(seen, [1])
    done.fire()
    t.equal(await next(), 'no')
    t.strictSame(seen.slice(0, 2), [1, 2])
  }
)

t.test('messages behind an invalid one are not delivered, even if they have arrived', async t => {
  const { app } = await makeApp(t)
  const started = new Signal<WebSocket<unknown>>()
  const values: unknown[] = []
  app.get('/', { websocket: true, schema: { receive: SAY } }, async socket => {
    socket.pause()
    socket.on('message', value => {
      values.push(value)
      socket.pause()
    })
    started.fire(socket)
  })
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await client.head()
  const socket = await started.wait('the handler')
  client.write(text('{"text":"1"}'), text('{"text":1e5,'), text('{"text":"2"}'))
  socket.resume()
  await once(socket, 'message')
  socket.resume()
  const { opcode, payload } = await client.frame()
  t.strictSame([opcode, payload.readUInt16BE(0)], [8, 1007])
  t.strictSame(values, [{ text: '1', times: 1 }])
})

t.test('with compression, messages are validated in their order', async t => {
  const { app } = await makeApp(t, { perMessageDeflate: { threshold: 0 } })
  app.get(
    '/',
    {
      websocket: {
        invalidMessage: ({ validation }, socket) =>
          socket.send(JSON.stringify({ invalid: validation?.length }))
      },
      schema: { receive: { type: 'array', items: { type: 'integer' } } }
    },
    async socket => {
      for await (const value of socket) socket.send(JSON.stringify(value))
    }
  )
  const port = await listen(app)
  const client = await open(t, port, '/')
  t.equal(client.socket.extensions, 'permessage-deflate')
  // The large one is inflated in the thread pool.
  const large = Array.from({ length: 100_000 }, (_, index) => index)
  for (const message of [[1], large, ['x'], large, ['y'], [2]]) client.socket.send(JSON.stringify(message))
  const sizes: unknown[] = []
  for (let i = 0; i < 6; i++) {
    const answer: unknown = JSON.parse(await client.next())
    sizes.push(Array.isArray(answer) ? answer.length : answer)
  }
  t.strictSame(sizes, [1, 100_000, { invalid: 1 }, 100_000, { invalid: 1 }, 1])
})

t.test('code that has replaced emit sees the values', async t => {
  const { app } = await makeApp(t)
  const emitted: unknown[] = []
  app.get('/', { websocket: true, schema: { receive: {} } }, socket => {
    const { emit } = socket
    Reflect.set(socket, 'emit', (...args: unknown[]) => {
      emitted.push(args)
      return Reflect.apply(emit, socket, args)
    })
    socket.on('message', () => socket.close())
  })
  const { client, closed } = await connect(t, app)
  client.send('{"a":1}')
  await closed()
  t.strictSame(emitted[0], ['message', { a: 1 }, false])
})

t.test('a message is validated without a consumer too', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true, schema: { receive: SAY } }, () => {})
  const { client, closed } = await connect(t, app)
  client.send('{"text":"fine"}')
  client.send('{}')
  t.equal(await closed(), '1007 invalid message')
})

t.test('an invalid message of a connection that is closing changes nothing', async t => {
  const { app } = await makeApp(t)
  app.get('/', { websocket: true, schema: { receive: SAY } }, socket => {
    socket.on('message', () => socket.close(4000, 'enough'))
  })
  const { client, closed } = await connect(t, app)
  client.send('{"text":"fine"}')
  client.send('{}')
  t.equal(await closed(), '4000 enough')
})

// ---- sending

/** A connection of a route that sends, and its client. */
async function sender(t: Test, send: unknown = SAID, options = {}) {
  const { app } = await makeApp(t)
  const opened = new Signal<WebSocket<Message, unknown>>()
  app.get<{ Send: unknown }>('/', { websocket: true, schema: { send }, ...options }, socket => {
    opened.fire(socket)
  })
  const { client, next } = await connect(t, app)
  return { app, client, next, socket: await opened.wait('the handler') }
}

t.test('send serializes a value: undeclared properties stay, and options and callbacks work', async t => {
  const { socket, next, client } = await sender(t)
  const sent = new Signal<Error | undefined>()
  t.equal(socket.send({ from: 'a', secret: 1 }), true)
  socket.send({ from: 'b' }, sent.fire.bind(sent))
  t.equal(await sent.wait('the callback'), undefined)
  socket.send({ from: 'c' }, { binary: true, compress: false })
  t.strictSame(await next(), { from: 'a' })
  t.strictSame(await next(), { from: 'b' })
  t.strictSame(await next(), Buffer.from('{"from":"c"}'))
  client.close()
  await once(socket, 'close')
  t.equal(socket.send({ from: 'late' }), false)
})

t.test('a value that does not match the schema throws at the caller, and nothing is sent', async t => {
  const { socket, next } = await sender(t)
  const refused = { name: 'FastifyError', code: 'FST_UPGRADE_SERIALIZATION' }
  for (const act of [
    () => socket.send({ text: 'hi' }),
    () => socket.prepare({ text: 'hi' }),
    () => socket.publish('topic', { text: 'hi' })
  ])
    t.throws(act, refused)
  t.throws(() => socket.send({}), {
    message:
      'The value does not match the schema "send" of GET /: "from" is required!; send a value of the schema.',
    cause: new Error('"from" is required!')
  })
  socket.send({ from: 'last' })
  t.strictSame(await next(), { from: 'last' })
})

t.test(
  'bytes, and strings where the schema has an object, throw; a prepared message leaves as it is',
  async t => {
    const { socket, next } = await sender(t, { type: 'object', properties: { a: {} } })
    const refused = { code: 'FST_UPGRADE_INVALID_DATA' }
    for (const value of [
      Buffer.from('x'),
      new Uint8Array(1),
      new ArrayBuffer(1),
      new SharedArrayBuffer(1),
      new DataView(new ArrayBuffer(1)),
      '{"a":1}'
    ])
      t.throws(() => socket.send(value), refused)
    for (const [value, name] of [
      [null, 'null'],
      [undefined, 'undefined'],
      [1, 'number'],
      [[1], 'array']
    ] as const)
      t.throws(() => socket.send(value), { ...refused, message: `A value of type ${name} cannot be sent` })
    const called = new Signal<Error | undefined>()
    socket.send(prepare(Buffer.from('raw')), called.fire.bind(called))
    t.equal(await called.wait('the callback'), undefined)
    Reflect.apply(socket.send, socket, [prepare('text'), {}])
    t.strictSame(await next(), Buffer.from('raw'))
    t.rejects(next(), SyntaxError)
  }
)

t.test('a schema of strings, lists or anything', async t => {
  const strings = await sender(t, { type: 'string' })
  strings.socket.send('[x]')
  t.equal(await strings.next(), '[x]')
  const lists = await sender(t, { type: 'array', items: { type: 'integer' } })
  lists.socket.send([1, 2])
  t.strictSame(await lists.next(), [1, 2])
  t.throws(() => lists.socket.send('[1]'), { code: 'FST_UPGRADE_INVALID_DATA' })
  const nullable = await sender(t, { type: 'object', nullable: true })
  nullable.socket.send(null)
  t.equal(await nullable.next(), null)
  const anything = await sender(t, {}, { serializerCompiler: () => JSON.stringify })
  anything.socket.send({ lone: '\ud800' })
  t.strictSame(await anything.next(), { lone: '\ud800' })
  t.throws(() => anything.socket.send(undefined), { code: 'FST_UPGRADE_INVALID_DATA' })
})

t.test('a value without a form in JSON throws, whatever the schema is', async t => {
  const { socket, next } = await sender(t, {})
  for (const [value, name] of [
    [undefined, 'undefined'],
    [Symbol('x'), 'symbol'],
    [() => {}, 'function'],
    [{ toJSON() {} }, 'object']
  ] as const)
    t.throws(() => socket.send(value), {
      code: 'FST_UPGRADE_INVALID_DATA',
      message: `A value of type ${name} cannot be sent`
    })
  socket.send('undefined')
  t.equal(await next(), 'undefined')
})

t.test('where the schema leads to an object in other words, anything else throws too', async t => {
  const object = { type: 'object', properties: { a: {} } }
  const { app } = await makeApp(t)
  app.addSchema({ $id: 'shared', ...object })
  const schemas = {
    reference: { $ref: 'shared#' },
    part: { $ref: '#/definitions/part', definitions: { part: object } },
    all: { allOf: [object] },
    nullable: { ...object, nullable: true },
    implied: { properties: { a: {} } }
  }
  const sockets: WebSocket<Message, unknown>[] = []
  for (const [name, send] of Object.entries(schemas))
    app.get<{ Send: unknown }>(`/${name}`, { websocket: true, schema: { send } }, socket =>
      sockets.push(socket)
    )
  for (const name of Object.keys(schemas)) {
    const { next } = await connect(t, app, `/${name}`)
    const socket = sockets.pop()
    if (socket === undefined) throw new Error('the handler has not run')
    for (const value of ['{"a":1}', 1, true, [1], 1n])
      t.throws(() => socket.send(value), { code: 'FST_UPGRADE_INVALID_DATA' }, `${name}: ${value}`)
    if (name === 'nullable') {
      socket.send(null)
      t.equal(await next(), null)
    } else t.throws(() => socket.send(null), { code: 'FST_UPGRADE_INVALID_DATA' }, name)
    socket.send({ a: 1 })
    t.strictSame(await next(), { a: 1 }, name)
  }
})

t.test('a schema of Zod may make an object of another value', async t => {
  const at = z.codec(z.object({ ms: z.number() }), z.number(), {
    decode: ({ ms }) => ms,
    encode: ms => ({ ms })
  })
  const { socket, next } = await sender(t, at, { serializerCompiler })
  socket.send(5)
  t.strictSame(await next(), { ms: 5 })
})

t.test('a value to many is serialized once', async t => {
  const { app } = await makeApp(t)
  let calls = 0
  const sockets: WebSocket<Message, unknown>[] = []
  app.get<{ Send: unknown }>(
    '/:room',
    {
      websocket: { topics: () => ['room'] },
      schema: { send: {} },
      serializerCompiler: () => value => {
        calls++
        return JSON.stringify(value)
      }
    },
    socket => sockets.push(socket)
  )
  const clients = await Promise.all(['/1', '/2', '/3'].map(path => connect(t, app, path)))
  const [socket] = sockets
  const server = app.websocketServer
  const route = '/:room'
  await socket?.publish('room', { n: 1 })
  t.equal(calls, 1)
  await server.publish('room', server.prepare({ n: 2 }, { route }))
  await server.broadcast(server.prepare({ n: 3 }, { route, binary: true }))
  t.equal(calls, 3)
  for (const [index, { next }] of clients.entries()) {
    if (index > 0) t.strictSame(await next(), { n: 1 })
    t.strictSame(await next(), { n: 2 })
    t.strictSame(await next(), Buffer.from('{"n":3}'))
  }
  const message = socket?.prepare({ n: 4 })
  for (const one of sockets) if (message !== undefined) one.send(message)
  t.equal(calls, 4)
  for (const { next } of clients) t.strictSame(await next(), { n: 4 })
  t.equal(socket?.prepare(prepare('x')).payload, 'x')
})

t.test('websocketServer.prepare takes the route by its path and its subprotocol', async t => {
  const { app } = await makeApp(t)
  await app.register(
    async scope => {
      const schema = (name: string) => ({ send: { type: 'object', properties: { [name]: {} } } })
      scope.get('/', { websocket: true, schema: schema('plain') }, () => {})
      scope.get('/', { websocket: { subprotocol: ['v1', 'v2'] }, schema: schema('old') }, () => {})
      scope.get('/', { websocket: { subprotocol: 'v3' }, schema: schema('new') }, () => {})
      scope.get('/none', { websocket: true }, () => {})
    },
    { prefix: '/chat' }
  )
  await app.ready()
  const server = app.websocketServer
  const value = { plain: 1, old: 1, new: 1 }
  const route = '/chat'
  t.equal(server.prepare(value, { route }).payload, '{"plain":1}')
  t.equal(server.prepare(value, { route, subprotocol: 'v1' }).payload, '{"old":1}')
  t.equal(server.prepare(value, { route, subprotocol: 'v2' }).payload, '{"old":1}')
  t.equal(server.prepare(value, { route, subprotocol: 'v3', binary: true }).isBinary, true)
  for (const [options, name] of [
    [{ route: '/chat/none' }, '/chat/none'],
    [{ route: '/' }, '/'],
    [{ route, subprotocol: 'v4' }, '/chat (v4)']
  ] as const)
    t.throws(() => server.prepare(value, options), { code: 'FST_UPGRADE_UNKNOWN_ROUTE', message: name })
})

t.test('without the schema send, prepare and publish of a socket take text and bytes', async t => {
  const { app } = await makeApp(t)
  const opened = new Signal<WebSocket>()
  app.get('/', { websocket: true, schema: { params: {} } }, socket => opened.fire(socket))
  const { next } = await connect(t, app)
  const socket = await opened.wait('the handler')
  socket.send(socket.prepare('"text"'))
  t.equal(await next(), 'text')
  t.throws(() => Reflect.apply(socket.send, socket, [{}]), { code: 'FST_UPGRADE_INVALID_DATA' })
})
