import type { FastifyInstance } from 'fastify'
import t, { type Test } from 'tap'
import { parse } from 'yaml'
import { type AsyncApiOptions, asyncapi } from '../../lib/asyncapi/index.js'
import { findComponent } from '../../lib/asyncapi/page.js'
import upgrade from '../../lib/index.js'
import { bareApp, makeApp } from '../helpers/app.js'
import { documentedApp, info } from './documented-app.js'

const handler = () => {}

/** An application with a documented route at `/asyncapi`. */
function app(t: Test, options: Partial<AsyncApiOptions> = {}): Promise<FastifyInstance> {
  return documentedApp(t, app => void app.get('/chat', { websocket: true }, handler), {
    routePrefix: '/asyncapi',
    ...options
  })
}

t.test('the document is served as JSON and as YAML', async t => {
  const server = await app(t)
  const json = await server.inject('/asyncapi/json')
  t.equal(json.statusCode, 200)
  t.match(json.headers['content-type'], 'application/json')
  t.strictSame(json.json(), server.asyncapi())
  const yaml = await server.inject('/asyncapi/yaml')
  t.equal(yaml.headers['content-type'], 'application/yaml')
  t.equal(yaml.body, server.asyncapi({ yaml: true }))
  t.strictSame(parse(yaml.body), json.json())
  t.equal(server.asyncapi(), server.asyncapi({ yaml: false }), 'it is made once')
})

t.test('without routePrefix there are no routes', async t => {
  const server = await documentedApp(t, app => void app.get('/chat', { websocket: true }, handler))
  await server.ready()
  for (const path of ['/asyncapi', '/asyncapi/json', '/json', '/yaml'])
    t.equal((await server.inject(path)).statusCode, 404)
  t.ok(server.asyncapi().channels.chat)
})

t.test(
  'the page and its files come from the application, with a policy that allows nothing else',
  async t => {
    const server = await app(t)
    for (const [path, folder] of [
      ['/asyncapi', './asyncapi/'],
      ['/asyncapi/', './'],
      ['/asyncapi?a=/b', './asyncapi/']
    ]) {
      const page = await server.inject(path ?? '')
      t.match(page.headers, {
        'content-type': 'text/html; charset=utf-8',
        'content-security-policy': "default-src 'none'; script-src 'self'; style-src 'self'; ",
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer'
      })
      const policy = String(page.headers['content-security-policy'])
      t.notMatch(policy, 'unsafe')
      t.match(policy, "frame-ancestors 'none'")
      const links = Array.from(page.body.matchAll(/(?:src|href)="([^"]*)"/g), ([, link = '']) => link)
      t.strictSame(links, ['data:,', `${folder}component.css`, `${folder}page.css`, `${folder}page.mjs`])
    }
    for (const [name, type] of [
      ['page.mjs', 'text/javascript; charset=utf-8'],
      ['try-it.mjs', 'text/javascript; charset=utf-8'],
      ['sample.mjs', 'text/javascript; charset=utf-8'],
      ['page.css', 'text/css; charset=utf-8'],
      ['component.js', 'text/javascript; charset=utf-8'],
      ['component.css', 'text/css; charset=utf-8']
    ] as const) {
      const file = await server.inject(`/asyncapi/${name}`)
      t.match(file.headers, { 'content-type': type, 'x-content-type-options': 'nosniff' })
      t.ok(file.body.length > 100, name)
      const etag = String(file.headers.etag)
      const again = await server.inject({ url: `/asyncapi/${name}`, headers: { 'if-none-match': etag } })
      t.equal(again.statusCode, 304)
      t.equal(again.body, '')
    }
  }
)

t.test('text of the application is no HTML in the page', async t => {
  const server = await app(t, { info: { title: '<script>"a" & \'b\'', version: '1' } })
  const { body } = await server.inject('/asyncapi')
  t.match(body, '<title>&#60;script&#62;&#34;a&#34; &#38; &#39;b&#39;</title>')
})

t.test('every route of the documentation runs the hooks that the application gives', async t => {
  const calls: string[] = []
  const server = await app(t, {
    onRequest: [
      async request => {
        calls.push('onRequest')
        if (request.headers.authorization === undefined) {
          throw Object.assign(new Error('who are you?'), { statusCode: 401 })
        }
      }
    ],
    preHandler: (_request, _reply, done) => {
      calls.push('preHandler')
      done()
    }
  })
  const names = ['', '/', '/json', '/yaml', '/page.mjs', '/try-it.mjs', '/sample.mjs', '/page.css']
  for (const name of [...names, '/component.js', '/component.css']) {
    const url = `/asyncapi${name}`
    for (const method of ['GET', 'HEAD'] as const) {
      t.equal((await server.inject({ method, url })).statusCode, 401, `${method} ${url}`)
    }
    calls.length = 0
    t.equal((await server.inject({ url, headers: { authorization: 'a' } })).statusCode, 200, url)
    t.strictSame(calls, ['onRequest', 'preHandler'])
  }
})

t.test('page: false serves the document only', async t => {
  const server = await app(t, { page: false })
  t.equal((await server.inject('/asyncapi')).statusCode, 404)
  t.equal((await server.inject('/asyncapi/page.mjs')).statusCode, 404)
  t.equal((await server.inject('/asyncapi/json')).statusCode, 200)
})

t.test('without @asyncapi/react-component the page names the package to install', async t => {
  t.throws(() => findComponent('file:///nowhere/module.js'), {
    code: 'FST_UPGRADE_ASYNCAPI_PAGE_MISSING',
    message: /npm install @asyncapi\/react-component/
  })
})

t.test('the documentation is below the prefix of its scope', async t => {
  const { app } = await makeApp(t)
  await app.register(
    async scope => {
      await scope.register(asyncapi, { info, routePrefix: '/docs' })
      scope.get('/chat', { websocket: true }, handler)
    },
    { prefix: '/v1' }
  )
  t.match((await app.inject('/v1/docs')).body, 'data-folder="./docs/" data-prefix="/v1/docs"')
  t.match((await app.inject('/v1/docs/json')).json(), { channels: { 'v1-chat': { address: '/v1/chat' } } })
})

t.test('app.asyncapi() before all routes are declared throws', async t => {
  const server = await app(t)
  for (const yaml of [true, false] as const) {
    t.throws(() => (yaml ? server.asyncapi({ yaml }) : server.asyncapi()), {
      code: 'FST_UPGRADE_ASYNCAPI_NOT_READY'
    })
  }
})

t.test('a document without channels causes a warning', async t => {
  const { app, log } = bareApp(t)
  await app.register(upgrade)
  await app.register(asyncapi, { info })
  await app.ready()
  t.strictSame(app.asyncapi().channels, {})
  t.equal(
    log.with('the AsyncAPI document has no channels: there is no WebSocket route in its scope').length,
    1
  )
})

t.test('options are checked', async t => {
  const invalid: [options: object, message: string][] = [
    [{}, 'The option "info" must be an object with a title and a version, but it is undefined.'],
    [{ info: { title: 'a' } }, 'The option "info" must be an object with a title and a version'],
    [{ info: { title: 'a', version: '' } }, 'The option "info" must be'],
    [{ info, id: '' }, 'The option "id" must be a string'],
    [{ info, servers: [], servres: 1 }, 'There is no option "servres". Did you mean "servers"?'],
    [{ info, servers: 'a' }, 'The option "servers" must be an object of servers'],
    [{ info, servers: { a: { host: 'a' } } }, 'The option "servers" must be an object of servers'],
    [{ info, components: 1 }, 'The option "components" must be an object'],
    [{ info, routePrefix: 'docs' }, 'The option "routePrefix" must be a path that begins with "/"'],
    [{ info, routePrefix: '/' }, 'The option "routePrefix" must be a path that begins with "/"'],
    [{ info, page: 1 }, 'The option "page" must be a boolean'],
    [{ info, transform: {} }, 'The option "transform" must be a function'],
    [{ info, hideUntagged: 1 }, 'The option "hideUntagged" must be a boolean']
  ]
  for (const [options, message] of invalid) {
    const { app } = bareApp(t)
    await t.rejects(
      async () => app.register(asyncapi, Object.assign({ info }, { info: undefined }, options)),
      {
        message
      }
    )
  }
})
