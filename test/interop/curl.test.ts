import type { FastifyInstance } from 'fastify'
import { Server } from 'socket.io'
import t, { type Test } from 'tap'
import { listen, makeApp } from '../helpers/app.js'
import { addRoutes, checkClose, checkRoutes } from '../helpers/neighbour.js'
import { program, run } from '../helpers/program.js'

const { path: CURL, skip } = program('curl', '/usr/bin/curl')

interface Answer {
  readonly status: number
  readonly version: string
  readonly headers: ReadonlyMap<string, string>
  readonly body: string
  /** The head of the request that curl sent. */
  readonly asked: string
}

/** The response that curl receives. Its configuration file is not read, and no proxy is used. */
async function curl(t: Test, port: number, path: string, ...args: readonly string[]): Promise<Answer> {
  const url = `http://127.0.0.1:${port}${path}`
  const all = ['-q', '-sS', '-i', '-v', '--noproxy', '*', '--max-time', '10', ...args, url]
  const { code, stdout, stderr } = await run(t, CURL, all)
  t.equal(code, 0, `${args.join(' ')} ${path}`)
  const end = stdout.indexOf('\r\n\r\n')
  const [statusLine = '', ...lines] = stdout.slice(0, end).split('\r\n')
  const headers = new Map<string, string>()
  for (const line of lines)
    headers.set(line.split(':')[0].toLowerCase(), line.slice(line.indexOf(':') + 1).trim())
  const [version = '', status] = statusLine.split(' ')
  const asked = Array.from(stderr.matchAll(/^> (.*)\r?$/gm), ([, line]) => line).join('\n')
  return { status: Number(status), version, headers, body: stdout.slice(end + 4), asked }
}

const OFFER = /^Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c$/m

/** Applications whose upgrades have one consumer or several. */
const SHAPES: Readonly<Record<string, (app: FastifyInstance) => void>> = {
  alone: () => {},
  'beside socket.io': app => {
    const server = new Server(app.server, { serveClient: false })
    app.addHook('onClose', () => server.close())
  },
  'beside a listener that does nothing': app => void app.server.on('upgrade', () => {})
}

for (const [shape, addNeighbour] of Object.entries(SHAPES)) {
  t.test(`curl works with the plugin ${shape}`, { skip }, async t => {
    const { app } = await makeApp(t)
    addNeighbour(app)
    addRoutes(app)
    app.post('/body', async ({ body }) => body)
    const port = await listen(app)

    t.test('--http2 offers h2c, and receives the page by HTTP/1.1', async t => {
      const { status, version, body, headers, asked } = await curl(t, port, '/', '--http2')
      t.match(asked, OFFER, 'the upgrade was offered')
      t.strictSame([status, version, body], [200, 'HTTP/1.1', 'page'])
      t.equal(headers.get('upgrade'), undefined)
    })

    t.test('--http2 works with a body', async t => {
      const json = ['-H', 'Content-Type: application/json']
      const small = JSON.stringify({ a: 1 })
      // From 1 MiB on curl sends Expect: 100-continue first.
      for (const [name, body, more] of [
        ['by length', small, []],
        ['in chunks', small, ['-H', 'Transfer-Encoding: chunked']],
        ['that waits for 100', small, ['-H', 'Expect: 100-continue']]
      ] as const) {
        const answer = await curl(t, port, '/body', '--http2', ...json, ...more, '--data', body)
        t.match(answer.asked, OFFER, name)
        t.equal(answer.status === 100 ? answer.body.split('\r\n\r\n').at(-1) : answer.body, body, name)
      }
    })

    t.test('two requests may use one connection', async t => {
      const both = await curl(t, port, '/', '--http2', `http://127.0.0.1:${port}/`)
      t.equal(both.body.split('\r\n\r\n').at(-1), 'page')
      t.equal(both.asked.match(/^GET \/ /gm)?.length, 2)
    })

    t.test('a path with WebSocket routes only gets 426', async t => {
      for (const args of [[], ['--http2'], ['--head']]) {
        const { status, headers } = await curl(t, port, '/echo', ...args)
        t.equal(status, 426)
        t.equal(headers.get('upgrade'), 'websocket')
        t.match(headers.get('connection'), /^Upgrade\b/)
      }
      const { body } = await curl(t, port, '/echo')
      t.equal(JSON.parse(body).code, 'FST_UPGRADE_UPGRADE_REQUIRED')
    })

    t.test('--http1.0 receives ordinary responses', async t => {
      const { status, body } = await curl(t, port, '/', '--http1.0')
      t.strictSame([status, body], [200, 'page'])
      const post = await curl(t, port, '/body', '--http1.0', '-H', 'Content-Type: text/plain', '-d', 'text')
      t.strictSame([post.status, post.body], [200, 'text'])
      t.equal((await curl(t, port, '/echo', '--http1.0')).status, 426)
    })

    // RFC 9110 section 7.8: a server ignores the Upgrade of HTTP/1.0.
    t.test('an upgrade in HTTP/1.0 is ignored', async t => {
      const asks = ['-H', 'Connection: Upgrade', '-H', 'Upgrade: websocket']
      t.equal((await curl(t, port, '/', '--http1.0', ...asks)).body, 'page')
    })

    t.test('an unknown path gets 404', async t => {
      for (const args of [[], ['--http2'], ['--http1.0']]) {
        t.equal((await curl(t, port, '/nowhere', ...args)).status, 404)
      }
    })

    t.test('the routes of the plugin still work', async t => checkRoutes(t, port))
    t.test('the end', async t => checkClose(t, app, port))
  })
}
