import { once } from 'node:events'
import Fastify, { type FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import {
  schemaErrorFormatterOf,
  serializerCompilerOf,
  validatorCompilerOf
} from '../../lib/fastify/messages/schema-compilers.js'
import upgrade from '../../lib/index.js'
import { bareApp, ERROR, makeApp, watchProcess, withDeadline } from '../helpers/app.js'

const answer = ({ message }: Error, socket: { send(text: string): unknown }): unknown => socket.send(message)
const INTEGER = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] }

/** The messages that a route answers to one of its client. */
async function ask(t: Test, app: FastifyInstance, path: string, ...messages: string[]): Promise<string[]> {
  const client = await app.injectWS(path)
  t.teardown(() => client.terminate())
  const answers: string[] = []
  for (const message of messages) {
    client.send(message)
    const [data] = await withDeadline(once(client, 'message'), 10_000, 'an answer')
    answers.push(String(data))
  }
  return answers
}

/** A route that returns the values that it gets as JSON. */
function echo(app: FastifyInstance, path: string, receive: unknown, options: object = {}): void {
  app.get(path, { websocket: { invalidMessage: answer }, schema: { receive }, ...options }, socket => {
    socket.on('message', value => socket.send(JSON.stringify(value)))
  })
}

t.test('shared schemas and compilers of a scope may be added after its routes', async t => {
  const { app } = await makeApp(t)
  app.addSchema({ $id: 'id', type: 'integer' })
  echo(app, '/root', { $ref: 'id#' })
  app.register(async scope => {
    echo(scope, '/scope', { type: 'object', properties: { id: { $ref: 'id#' }, name: { $ref: 'name#' } } })
    scope.get(
      '/send',
      { websocket: true, schema: { send: { type: 'object', properties: { name: { $ref: 'name#' } } } } },
      socket => {
        socket.on('message', () => Reflect.apply(socket.send, socket, [{ name: 'x', id: 1 }]))
      }
    )
    scope.addSchema({ $id: 'name', type: 'string', maxLength: 2 })
  })
  app.register(async scope => {
    echo(scope, '/other', { type: 'string' })
    scope.setValidatorCompiler(({ schema, method, url, httpPart }) => value => ({
      value: { value, schema, method, url, httpPart }
    }))
  })
  app.register(async scope => {
    scope.get('/other/send', { websocket: true, schema: { send: { a: 1 } } }, socket => {
      socket.on('message', data => Reflect.apply(socket.send, socket, [String(data)]))
    })
    scope.setSerializerCompiler(
      ({ schema, method, url, httpStatus }) =>
        value =>
          JSON.stringify({ value, schema, method, url, httpStatus })
    )
  })
  t.strictSame(await ask(t, app, '/root', '"1"', '"x"'), ['1', 'body must be integer'])
  t.strictSame(await ask(t, app, '/scope', '{"name":"ab"}', '{"name":"abc","id":1}'), [
    '{"name":"ab"}',
    'body/name must NOT have more than 2 characters'
  ])
  t.strictSame(await ask(t, app, '/send', ''), ['{"name":"x"}'])
  t.strictSame(JSON.parse((await ask(t, app, '/other', '1')).join()), {
    value: 1,
    schema: { type: 'string' },
    method: 'GET',
    url: '/other',
    httpPart: 'body'
  })
  t.strictSame(JSON.parse((await ask(t, app, '/other/send', 'x')).join()), {
    value: 'x',
    schema: { a: 1 },
    method: 'GET',
    url: '/other/send',
    httpStatus: '101'
  })
})

t.test('compilers and the error formatter of a route take precedence over those of its scope', async t => {
  const { app } = await makeApp(t)
  app.setValidatorCompiler(() => () => ({ error: new Error('scope') }))
  app.setSchemaErrorFormatter(() => new Error('formatter of the scope'))
  echo(app, '/scope', {})
  echo(app, '/route', {}, { validatorCompiler: () => () => ({ value: 'route' }) })
  const faults = { validatorCompiler: () => Object.assign(() => false, { errors: [{ message: 'x' }] }) }
  echo(app, '/format', {}, faults)
  echo(
    app,
    '/format/route',
    {},
    {
      ...faults,
      schemaErrorFormatter: (errors: { message: string }[], part: string) =>
        new Error(`${part}: ${errors[0]?.message}`)
    }
  )
  t.strictSame(await ask(t, app, '/scope', '1'), ['scope'])
  t.strictSame(await ask(t, app, '/route', '1'), ['"route"'])
  t.strictSame(await ask(t, app, '/format', '1'), ['formatter of the scope'])
  t.strictSame(await ask(t, app, '/format/route', '1'), ['body: x'])
})

t.test('options of Ajv, and factories of compilers, are those of the application', async t => {
  const strict = await makeApp(t, {}, { ajv: { customOptions: { coerceTypes: false, allErrors: true } } })
  echo(strict.app, '/', { type: 'object', properties: { a: { type: 'integer' }, b: { type: 'integer' } } })
  t.strictSame(await ask(t, strict.app, '/', '{"a":"1","b":"1"}'), [
    'body/a must be integer, body/b must be integer'
  ])
  const own = await makeApp(
    t,
    {},
    {
      schemaController: {
        compilersFactory: {
          buildValidator: (() => () => () => ({ value: 'factory' })) as never,
          buildSerializer: () => () => () => 'factory'
        }
      }
    }
  )
  own.app.get('/', { websocket: true, schema: { receive: {}, send: {} } }, socket => {
    socket.on('message', value => socket.send(value))
  })
  t.strictSame(await ask(t, own.app, '/', '1'), ['factory'])
})

t.test('the results of a validator mean the same as in Fastify', async t => {
  const { app } = await makeApp(t)
  let result: unknown
  const validate = Object.assign(() => result, { errors: [{ instancePath: '/a', message: 'is bad' }] })
  echo(app, '/', {}, { validatorCompiler: () => validate })
  for (const [returned, expected] of [
    [true, '1'],
    [undefined, '1'],
    [null, '1'],
    [{}, '1'],
    [{ value: 2 }, '2'],
    [{ value: 3, error: undefined }, '3'],
    [{ error: new Error('an error') }, 'an error'],
    [{ error: 'a string' }, "A value that is not an error was thrown: 'a string'"],
    [{ error: [{ message: 'one' }, { instancePath: '/b', message: 'two' }] }, 'body one, body/b two'],
    [false, 'body/a is bad']
  ] as const) {
    result = returned
    t.strictSame(await ask(t, app, '/', '1'), [expected])
  }
})

t.test('the error carries the faults and the error of the validator', async t => {
  const { app } = await makeApp(t)
  const errors: unknown[] = []
  const cause = Object.assign(new Error('own'), { extra: 1 })
  let isArray = true
  app.get(
    '/',
    {
      websocket: {
        invalidMessage(error, socket) {
          errors.push(error)
          socket.send('')
        }
      },
      schema: { receive: {} },
      validatorCompiler: () => () => ({ error: isArray ? [] : cause })
    },
    () => {}
  )
  await ask(t, app, '/', '1')
  isArray = false
  await ask(t, app, '/', '1')
  t.match(errors[0], { message: 'body is invalid', validation: [], validationContext: 'body', value: 1 })
  t.match(errors[1], { message: 'own', cause, statusCode: 400 })
  t.notOk(Object.keys(Object(errors[1])).includes('value'), 'it does not get into logs')
})

t.test('a schema that does not compile fails the start, with the name of the route', async t => {
  for (const schema of [
    { receive: { type: 'nothing' } },
    { send: { type: 'nothing' } },
    { receive: { $ref: 'missing#' } }
  ]) {
    const { app } = await makeApp(t)
    app.register(
      async scope => {
        scope.get('/room/:id', { websocket: true, schema }, () => {})
      },
      { prefix: '/v1' }
    )
    await t.rejects(async () => app.ready(), {
      code: 'FST_UPGRADE_INVALID_SCHEMA',
      message: `The schema "${Object.keys(schema)}" of the WebSocket route GET /v1/room/:id does not compile: `
    })
  }
  const { app } = await makeApp(t)
  app.get(
    '/',
    { websocket: true, schema: { receive: {} }, validatorCompiler: () => Reflect.get({}, 'none') },
    () => {}
  )
  await t.rejects(async () => app.ready(), {
    code: 'FST_UPGRADE_INVALID_SCHEMA',
    message: 'the compiler returns no function'
  })
})

t.test(
  'an asynchronous validator is refused: at the start if it is known, else with its first message',
  async t => {
    for (const options of [
      { schema: { receive: { $async: true, type: 'object' } } },
      { schema: { receive: {} }, validatorCompiler: () => async () => true }
    ]) {
      const { app } = await makeApp(t)
      echo(app, '/', {}, options)
      await t.rejects(async () => app.ready(), { code: 'FST_UPGRADE_ASYNC_VALIDATOR' })
    }
    watchProcess(t)
    const { app, log } = await makeApp(t)
    echo(app, '/', {}, { validatorCompiler: () => () => Promise.reject(new Error('late')) })
    const client = await app.injectWS('/')
    client.send('1')
    const [code] = await withDeadline(once(client, 'close'), 10_000, 'the close')
    t.equal(code, 1011)
    t.match(log.at(ERROR), [
      {
        err: { code: 'FST_UPGRADE_ASYNC_VALIDATOR' },
        msg: 'a message of the WebSocket at GET / was not validated'
      }
    ])
  }
)

t.test('a validator or a formatter that throws is an error of the application', async t => {
  for (const [options, message] of [
    [
      {
        validatorCompiler: () => () => {
          throw new Error('validator')
        }
      },
      'validator'
    ],
    [
      {
        validatorCompiler: () => () => false,
        schemaErrorFormatter: () => {
          throw new Error('formatter')
        }
      },
      'formatter'
    ]
  ] as const) {
    const { app, log } = await makeApp(t)
    app.get('/', { websocket: true, schema: { receive: {} }, ...options }, () => {})
    const client = await app.injectWS('/')
    client.send('1')
    const [code] = await withDeadline(once(client, 'close'), 10_000, 'the close')
    t.equal(code, 1011)
    t.match(log.at(ERROR), [{ err: { message } }])
  }
})

t.test('a schema of fluent-json-schema is used as its JSON Schema', async t => {
  const { app } = await makeApp(t)
  echo(app, '/a', { isFluentSchema: true, valueOf: () => INTEGER })
  echo(app, '/b', { [Symbol.for('fluent-schema-object')]: true, valueOf: () => INTEGER })
  for (const path of ['/a', '/b']) t.strictSame(await ask(t, app, path, '{"n":"1"}'), ['{"n":1}'])
})

t.test('routes with different subprotocols have schemas of their own, and so has a wsHandler', async t => {
  const { app } = await makeApp(t)
  echo(app, '/', { type: 'integer' }, { websocket: { subprotocol: 'int', invalidMessage: answer } })
  echo(app, '/', { type: 'string' }, { websocket: { subprotocol: 'text', invalidMessage: answer } })
  app.route({
    method: 'GET',
    url: '/both',
    schema: {
      receive: { type: 'integer' },
      querystring: { type: 'object', properties: { a: { type: 'integer' } } }
    },
    handler: async ({ query }) => query,
    websocket: { invalidMessage: answer },
    wsHandler: socket => {
      socket.on('message', value => socket.send(JSON.stringify(value)))
    }
  })
  await app.ready()
  for (const [path, subprotocol, expected] of [
    ['/', 'int', 'body must be integer'],
    ['/', 'text', '"x"'],
    ['/both', undefined, 'body must be integer']
  ] as const) {
    const client = await app.injectWS(path, subprotocol === undefined ? {} : { subprotocols: [subprotocol] })
    client.send('"x"')
    const [data] = await withDeadline(once(client, 'message'), 10_000, 'an answer')
    t.equal(String(data), expected)
    client.terminate()
  }
  t.strictSame((await app.inject('/both?a=1')).json(), { a: 1 })
})

t.test('a schema that a hook of a later plugin sets is used, and request.routeOptions has it', async t => {
  const { app } = bareApp(t)
  await app.register(upgrade)
  app.addHook('onRoute', options => {
    if (options.method === 'GET') options.schema = { ...options.schema, receive: { type: 'integer' } }
  })
  app.get('/', { websocket: { invalidMessage: answer } }, (socket, { routeOptions }) => {
    socket.on('message', value => socket.send(JSON.stringify([value, routeOptions.schema])))
  })
  t.strictSame(await ask(t, app, '/', '1', '"x"'), [
    '[1,{"hide":true,"receive":{"type":"integer"}}]',
    'body must be integer'
  ])
})

t.test('a route whose schema was removed has no schemas', async t => {
  const { app } = await makeApp(t)
  app.addHook('onRoute', options => {
    Reflect.deleteProperty(options, 'schema')
  })
  app.get('/', { websocket: true, schema: { receive: { type: 'integer' } } }, socket => {
    socket.on('message', data => socket.send(String(data)))
  })
  t.strictSame(await ask(t, app, '/', 'text'), ['text'])
})

t.test('a request that is no handshake is not validated as a message', async t => {
  const { app } = await makeApp(t)
  echo(app, '/', INTEGER)
  t.equal((await app.inject('/')).statusCode, 426)
  t.equal((await app.inject({ method: 'HEAD', url: '/' })).statusCode, 426)
})

// ---- Fastify's internals

t.test('this version of Fastify has the symbols by which its compilers are found', async t => {
  const app = Fastify({ schemaErrorFormatter: () => new Error('own') })
  t.equal(app.validatorCompiler, undefined)
  t.equal(typeof validatorCompilerOf(app), 'function')
  t.equal(typeof serializerCompilerOf(app), 'function')
  t.equal(schemaErrorFormatterOf(app)([], 'body').message, 'own')
})

t.test('without these symbols, the compilers that the application has set are used', async t => {
  const compiler = () => () => true
  const app = Object.create({ validatorCompiler: compiler })
  t.equal(validatorCompilerOf(app), compiler)
  t.equal(
    schemaErrorFormatterOf(app)(
      [{ keyword: '', schemaPath: '', params: {}, instancePath: '/a', message: 'is bad' }],
      'body'
    ).message,
    'body/a is bad'
  )
})
