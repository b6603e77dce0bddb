import type { FastifyInstance, FastifySchema } from 'fastify'
import t from 'tap'
import { type AsyncApiDocument, asyncapi } from '../../lib/asyncapi/index.js'
import upgrade from '../../lib/index.js'
import { bareApp } from '../helpers/app.js'
import { documentedApp, documentOf, info } from './documented-app.js'
import { checkDocument } from './parser.js'

const handler = () => {}
const text = { type: 'object', properties: { text: { type: 'string' } } }

/** A schema with keys or values that its type does not have. */
const loose = (schema: object): FastifySchema => ({ ...schema })

/** The addresses of a document by channel. */
const addresses = ({ channels }: AsyncApiDocument) =>
  Object.entries(channels).map(([id, { address }]) => [id, address])

t.test('a WebSocket route is a channel, and its two schemas are operations of the application', async t => {
  const document = await documentOf(t, app => {
    app.get('/ordinary', async () => 'ordinary')
    app.get(
      '/chat',
      {
        websocket: true,
        schema: {
          summary: 'The chat',
          description: 'For *everybody*.',
          tags: ['chat'],
          externalDocs: { url: 'https://example.com/chat' },
          receive: { ...text, title: 'Said' },
          send: text
        } as const
      },
      handler
    )
  })
  await checkDocument(t, document)
  const messages = '#/channels/chat/messages'
  t.strictSame(document, {
    asyncapi: '3.1.0',
    info,
    defaultContentType: 'application/json',
    channels: {
      chat: {
        address: '/chat',
        summary: 'The chat',
        description: 'For *everybody*.',
        tags: [{ name: 'chat' }],
        externalDocs: { url: 'https://example.com/chat' },
        messages: {
          Said: { name: 'Said', title: 'Said', payload: { ...text, title: 'Said' } },
          send: { name: 'send', payload: text }
        },
        bindings: { ws: { method: 'GET', bindingVersion: '0.1.0' } }
      }
    },
    operations: {
      'chat.receive': {
        action: 'receive',
        channel: { $ref: '#/channels/chat' },
        summary: 'The chat',
        tags: [{ name: 'chat' }],
        messages: [{ $ref: `${messages}/Said` }]
      },
      'chat.send': {
        action: 'send',
        channel: { $ref: '#/channels/chat' },
        summary: 'The chat',
        tags: [{ name: 'chat' }],
        messages: [{ $ref: `${messages}/send` }]
      }
    }
  })
})

t.test('a route without schemas receives and sends messages of any content', async t => {
  const document = await documentOf(t, app => app.get('/', { websocket: true }, handler))
  await checkDocument(t, document)
  t.strictSame(document.channels.root?.messages, {
    receive: { name: 'receive', payload: {} },
    send: { name: 'send', payload: {} }
  })
  t.strictSame(Object.keys(document.operations), ['root.receive', 'root.send'])
})

t.test('a route with one of the schemas has one operation', async t => {
  const document = await documentOf(t, app => {
    app.get('/out', { websocket: true, schema: { send: true } }, handler)
    app.get('/in', { websocket: true, schema: { receive: text } }, handler)
  })
  await checkDocument(t, document)
  t.strictSame(Object.keys(document.operations), ['out.send', 'in.receive'])
  t.strictSame(document.channels.out?.messages, { send: { name: 'send', payload: {} } })
})

t.test('the path of a route becomes an address with parameters', async t => {
  const document = await documentOf(t, app => {
    const params = {
      type: 'object',
      properties: {
        room: { type: 'string', description: 'Its name', enum: ['a', 'b'], default: 'a', examples: ['a'] },
        n: { type: 'integer', default: 1, examples: [1, 2] }
      }
    }
    app.get('/rooms/:room/:n', { websocket: true, schema: { params } }, handler)
    app.get('/files/*', { websocket: true }, handler)
    app.get('/at/:hour(^\\d{2})h:minute(^\\d{2}(?:\\))?$)m', { websocket: true }, handler)
    app.get('/a-:b.txt/c::d', { websocket: true }, handler)
    app.get('/optional/:id?', { websocket: true }, handler)
    app.get('/:any?', { websocket: true }, handler)
  })
  await checkDocument(t, document)
  t.strictSame(addresses(document), [
    ['rooms-room-n', '/rooms/{room}/{n}'],
    ['files-wildcard', '/files/{wildcard}'],
    ['at-hour-h-minute-m', '/at/{hour}h{minute}m'],
    ['a--b-.txt-c-d', '/a-{b}.txt/c:d'],
    ['optional', '/optional'],
    ['optional-id', '/optional/{id}'],
    ['root', '/'],
    ['any', '/{any}']
  ])
  t.strictSame(document.channels['rooms-room-n']?.parameters, {
    room: { description: 'Its name', enum: ['a', 'b'], default: 'a', examples: ['a'] },
    n: { default: '1', examples: ['1', '2'] }
  })
  t.strictSame(document.channels['files-wildcard']?.parameters, { wildcard: {} })
  t.equal(document.channels.root?.parameters, undefined)
})

t.test('routes of one path with different subprotocols are different channels', async t => {
  const document = await documentOf(t, app => {
    app.get('/chat', { websocket: { subprotocol: 'chat.v2' } }, handler)
    app.get('/chat', { websocket: { subprotocol: ['chat.v1', 'chat'] } }, handler)
    app.get('/chat', { websocket: true }, handler)
    const headers = { type: 'object', properties: { 'x-token': { type: 'string' } } }
    app.get('/token', { websocket: { subprotocol: 'a' }, schema: { headers } }, handler)
  })
  await checkDocument(t, document)
  t.strictSame(addresses(document), [
    ['chat.chat.v2', '/chat'],
    ['chat.chat.v1', '/chat'],
    ['chat', '/chat'],
    ['token.a', '/token']
  ])
  const headersOf = (id: string) => document.channels[id]?.bindings.ws.headers
  const header = (names: readonly string[]) => ({
    type: 'object',
    properties: {
      'Sec-WebSocket-Protocol': {
        type: 'string',
        enum: names,
        description: 'The subprotocol of the connection.'
      }
    },
    required: ['Sec-WebSocket-Protocol']
  })
  t.strictSame(headersOf('chat.chat.v2'), header(['chat.v2']))
  t.strictSame(headersOf('chat.chat.v1'), header(['chat.v1', 'chat']))
  t.equal(headersOf('chat'), undefined)
  const token = { type: 'object', properties: { 'x-token': { type: 'string' } } }
  t.match(headersOf('token.a'), { allOf: [token, header(['a'])] })
})

t.test('query and headers of the handshake are in the binding', async t => {
  const document = await documentOf(t, app => {
    const headers = { type: 'object', properties: { 'x-token': { type: 'string' } } }
    app.get('/a', { websocket: true, schema: { querystring: text, headers } }, handler)
    // Fastify's other name.
    app.get('/b', { websocket: true, schema: loose({ query: text }) }, handler)
  })
  await checkDocument(t, document)
  t.match(document.channels.a?.bindings.ws, {
    query: text,
    headers: { properties: { 'x-token': { type: 'string' } } }
  })
  t.strictSame(document.channels.b?.bindings.ws.query, text)
})

t.test('security names schemes as in OpenAPI', async t => {
  const securitySchemes = {
    bearer: { type: 'http', scheme: 'bearer' },
    oauth: {
      type: 'oauth2',
      flows: { clientCredentials: { tokenUrl: 'https://example.com', availableScopes: {} } }
    }
  }
  const secured = (names: Record<string, string[]>) => (app: FastifyInstance) =>
    app.get('/a', { websocket: true, schema: { security: [names] } }, handler)
  const document = await documentOf(t, secured({ bearer: [], oauth: ['chat'] }), {
    components: { securitySchemes }
  })
  await checkDocument(t, document)
  t.strictSame(document.operations['a.receive']?.security, [
    { $ref: '#/components/securitySchemes/bearer' },
    { ...securitySchemes.oauth, scopes: ['chat'] }
  ])
  for (const name of ['unknown', 'constructor']) {
    const app = await documentedApp(t, secured({ [name]: [] }), { components: { securitySchemes } })
    await t.rejects(async () => app.ready(), {
      code: 'FST_UPGRADE_UNKNOWN_SECURITY_SCHEME',
      message: `The security of GET /a names "${name}", which is not described; add it to "components.securitySchemes" of fastify-upgrade/asyncapi.`
    })
  }
})

t.test('hidden routes are left out, and untagged ones with hideUntagged', async t => {
  const declare = (app: FastifyInstance) => {
    app.get('/hidden', { websocket: true, schema: { hide: true, tags: ['a'] } }, handler)
    app.get('/shown', { websocket: true, schema: { hide: false, tags: ['a'] } }, handler)
    app.get('/untagged', { websocket: true }, handler)
    for (const hide of [true, false]) {
      const schema = { hide, tags: ['a'] }
      app.route({ method: 'GET', url: `/both/${hide}`, schema, handler: async () => '', wsHandler: handler })
    }
    app.route({ method: 'GET', url: '/both', handler: async () => '', wsHandler: handler })
  }
  t.strictSame(Object.keys((await documentOf(t, declare)).channels), [
    'shown',
    'untagged',
    'both-false',
    'both'
  ])
  t.strictSame(Object.keys((await documentOf(t, declare, { hideUntagged: true })).channels), [
    'shown',
    'both-false'
  ])
})

t.test('the document has the servers, the components and the identifier of the options', async t => {
  const options = {
    id: 'https://example.com/chat',
    servers: { main: { host: 'example.com', protocol: 'wss', pathname: '/v1' } },
    components: { schemas: { User: text }, securitySchemes: { bearer: { type: 'http', scheme: 'bearer' } } }
  }
  const document = await documentOf(
    t,
    app => {
      app.addSchema({ $id: 'User', type: 'string' })
      app.get('/a', { websocket: true, schema: { receive: { $ref: 'User#' } } }, handler)
    },
    options
  )
  await checkDocument(t, document)
  t.match(document, { ...options, components: { schemas: { User: text, 'User-2': { type: 'string' } } } })
})

t.test('the order of registrations does not matter, and a scope has a document of its own', async t => {
  const { app } = bareApp(t)
  await app.register(
    async scope => {
      await scope.register(upgrade)
      scope.get('/first', { websocket: true }, handler)
      await scope.register(asyncapi, { info })
      await scope.register(async inner => void inner.get('/inner', { websocket: true }, handler), {
        prefix: '/a'
      })
      scope.addHook('onReady', async () => {
        t.strictSame(Object.keys(scope.asyncapi().channels), ['b-first', 'b-a-inner'])
      })
    },
    { prefix: '/b' }
  )
  await app.register(async scope => {
    await scope.register(asyncapi, { info })
    await scope.register(upgrade)
    scope.get('/other', { websocket: true }, handler)
    scope.addHook('onReady', async () => {
      t.strictSame(Object.keys(scope.asyncapi().channels), ['other'])
    })
  })
  await app.ready()
  t.notOk(app.hasDecorator('asyncapi'))
})

t.test('routes with one name get different ones', async t => {
  const document = await documentOf(t, app => {
    app.get('/a/b', { websocket: true }, handler)
    app.get('/a-b', { websocket: true }, handler)
    app.get('/c', { websocket: true, schema: { operationId: 'a-b' } }, handler)
  })
  await checkDocument(t, document)
  t.strictSame(addresses(document), [
    ['a-b', '/a/b'],
    ['a-b-2', '/a-b'],
    ['a-b-3', '/c']
  ])
})

t.test('transform changes the schema and the path of a route', async t => {
  const document = await documentOf(
    t,
    app => {
      app.get('/v1/a', { websocket: true, schema: { summary: 'A' } }, handler)
      app.get('/b', { websocket: { subprotocol: 'b' }, config: { isInternal: true } }, handler)
    },
    {
      transform: ({ schema, url, route }) => ({
        schema: { ...schema, receive: text, hide: Reflect.get(Object(route.config), 'isInternal') === true },
        url: url.replace('/v1', '')
      })
    }
  )
  t.strictSame(addresses(document), [['a', '/a']])
  t.match(document.channels.a, { summary: 'A', messages: { receive: { payload: text } } })
})

t.test('a transform that returns something else makes the start fail', async t => {
  for (const result of ['null', '{}', '{"schema":{}}', '{"schema":1,"url":"/a"}']) {
    const app = await documentedApp(t, app => void app.get('/a', { websocket: true }, handler), {
      transform: () => JSON.parse(result)
    })
    await t.rejects(async () => app.ready(), {
      code: 'FST_UPGRADE_INVALID_OPTION',
      message: 'The option "transform" must be a function that returns { schema, url }, but it is '
    })
  }
})

t.test('keys of a schema with values of other types are ignored', async t => {
  const schema = loose({ summary: 1, tags: 'a', security: {}, externalDocs: { url: 1 }, operationId: {} })
  const document = await documentOf(t, app => app.get('/a', { websocket: true, schema }, handler))
  await checkDocument(t, document)
  t.strictSame(Object.keys(document.channels.a ?? {}), ['address', 'messages', 'bindings'])
})

t.test('a document of 200 routes', async t => {
  const document = await documentOf(t, app => {
    app.addSchema({ $id: 'User', type: 'object', properties: { name: { type: 'string' } } })
    for (let n = 0; n < 200; n++) {
      const member = (type: string) => ({
        type: 'object',
        properties: { type: { const: type }, user: { $ref: 'User#' }, n: { type: 'integer', maximum: n } },
        required: ['type']
      })
      const union = { anyOf: [member('one'), member('two'), member('three')] }
      app.get(`/rooms${n}/:room`, { websocket: true, schema: { receive: union, send: union } }, handler)
    }
  })
  await checkDocument(t, document)
  t.equal(Object.keys(document.channels).length, 200)
  t.equal(Object.keys(document.operations).length, 400)
  t.strictSame(Object.keys(document.components?.schemas ?? {}), ['User'])
})
