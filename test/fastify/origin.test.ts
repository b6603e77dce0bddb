import t, { type Test } from 'tap'
import type { FastifyUpgradeOptions } from '../../lib/index.js'
import { codeOf, ERROR, handshake, INFO, listen, makeApp, shake } from '../helpers/app.js'

type Origin = NonNullable<FastifyUpgradeOptions['origin']>

async function statusOf(t: Test, origin: Origin, value: string | undefined, fields = {}): Promise<number> {
  const { app } = await makeApp(t, { origin }, { trustProxy: true })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  const { status } = await shake(t, port, '/', { Host: 'example.com', Origin: value, ...fields })
  return status
}

const SAME_ORIGIN: readonly [origin: string | undefined, host: string, status: number][] = [
  [undefined, 'example.com', 101],
  ['http://example.com', 'example.com', 101],
  ['https://example.com', 'example.com', 101],
  ['https://example.com', 'example.com:443', 101],
  ['http://example.com', 'example.com:80', 101],
  ['http://example.com:8080', 'example.com:8080', 101],
  ['http://EXAMPLE.com', 'example.COM', 101],
  ['http://[::1]:3000', '[::1]:3000', 101],
  ['http://example.com', 'example.com:8080', 403],
  ['https://example.com', 'example.com:80', 403],
  ['http://example.com.evil.test', 'example.com', 403],
  ['http://example.com@evil.test', 'example.com', 403],
  ['http://evil.test', 'example.com', 403],
  ['http://sub.example.com', 'example.com', 403],
  ['null', 'example.com', 403],
  ['', 'example.com', 403],
  ['not an origin', 'example.com', 403],
  ['http://example.com', 'exa mple', 403],
  ['file://', 'example.com', 403],
  ['file://', 'localhost', 403],
  ['file:///', 'localhost', 403],
  ['app://', 'localhost', 403]
]
for (const [origin, host, status] of SAME_ORIGIN) {
  t.test(`same-origin: a page of ${origin} at ${host} gets ${status}`, async t => {
    t.equal(await statusOf(t, 'same-origin', origin, { Host: host }), status)
  })
}

t.test('same-origin uses the host that a trusted proxy sends', async t => {
  const fields = { Host: 'internal:3000', 'X-Forwarded-Host': 'example.com' }
  t.equal(await statusOf(t, 'same-origin', 'https://example.com', fields), 101)
  t.equal(await statusOf(t, 'same-origin', 'http://internal:3000', fields), 403)
})

t.test('a repeated Origin is refused', async t => {
  const fields = { Origin: 'http://example.com\r\nOrigin: http://example.com' }
  t.equal(await statusOf(t, 'same-origin', undefined, fields), 403)
  t.equal(await statusOf(t, '*', undefined, fields), 101)
})

const RULES: readonly [rule: Origin, origin: string, status: number][] = [
  ['*', 'http://evil.test', 101],
  ['https://a.test', 'https://a.test', 101],
  ['https://a.test', 'http://a.test', 403],
  [['https://a.test', 'https://b.test:8443'], 'https://b.test:8443', 101],
  [['https://a.test'], 'https://a.test.evil', 403],
  [/https:\/\/[a-z]+\.a\.test/, 'https://x.a.test', 101],
  [/https:\/\/[a-z]+\.a\.test/, 'https://x.a.test.evil', 403],
  [/a\.test/, 'https://a.test', 403],
  [/https:\/\/a\.test|https:\/\/a\.test:8443/, 'https://a.test:8443', 101],
  [/https:\/\/a|https:\/\/b/, 'https://b.test', 403],
  [['null'], 'null', 101],
  ['file://', 'file://', 101],
  [['https://a.test', 'file://'], 'file://', 101],
  ['file://', 'file:///', 403],
  ['file://', 'null', 403],
  ['app://My-App', 'app://My-App', 101],
  ['app://My-App', 'app://my-app', 403],
  ['App://-', 'App://-', 101],
  ['safari-web-extension://4E2C0F6A', 'safari-web-extension://4E2C0F6A', 101],
  ['ws://device.test:8080', 'ws://device.test:8080', 101],
  ['http://xn--mnchen-3ya.test', 'http://xn--mnchen-3ya.test', 101],
  ['http://[::1]:3000', 'http://[::1]:3000', 101],
  [/arduino|esp32:\d+/, 'esp32:80', 101],
  ['capacitor://localhost', 'capacitor://localhost', 101],
  [(origin: string) => origin.endsWith('.test'), 'https://a.test', 101],
  [(origin: string) => origin.endsWith('.test'), 'https://a.com', 403],
  [async (origin: string) => origin.endsWith('.test'), 'https://a.test', 101],
  [async () => false, 'https://a.test', 403],
  [() => Promise.reject(new Error('no database')), 'https://a.test', 500]
]
for (const [rule, origin, status] of RULES) {
  t.test(`${String(rule)} and a page of ${origin}: ${status}`, async t => {
    t.equal(await statusOf(t, rule, origin), status)
  })
}

const NO_RULES: readonly [rule: unknown, message: string][] = [
  ['https://a.test/', "an origin as clients send it, 'https://a.test' in place of 'https://a.test/'"],
  ['HTTPS://A.test', "'https://a.test' in place of 'HTTPS://A.test'"],
  ['https://a.test:443', "'https://a.test' in place of 'https://a.test:443'"],
  ['https://u@a.test', "'https://a.test' in place of 'https://u@a.test'"],
  ['https://münchen.test', "'https://xn--mnchen-3ya.test' in place of 'https://münchen.test'"],
  [['https://b.test', 'a.test'], "'https://a.test' in place of 'a.test'"],
  ['localhost:3000', "'https://localhost:3000' in place of 'localhost:3000'"],
  ['file:///index.html', "'file://' in place of 'file:///index.html'"],
  ['capacitor://localhost/', "'capacitor://localhost' in place of 'capacitor://localhost/'"],
  ['https://*.a.test', "a RegExp or a function where 'https://*.a.test' stands for several origins"],
  [['*'], "a RegExp or a function where '*' stands for several origins"],
  ['https://', "'same-origin', '*', an origin such as"],
  ['not an origin', "'same-origin', '*', an origin such as"],
  ['', "'same-origin', '*', an origin such as"],
  [[], "'same-origin', '*', an origin such as"],
  [42, "'same-origin', '*', an origin such as"],
  [null, "'same-origin', '*', an origin such as"]
]
for (const [origin, message] of NO_RULES) {
  t.test(
    `the error for ${JSON.stringify(origin)}, which equals no Origin header, says what to write`,
    async t => {
      const options: FastifyUpgradeOptions = {}
      Object.assign(options, { origin })
      const error = await t.rejects(makeApp(t, options), { code: 'FST_UPGRADE_INVALID_OPTION' })
      t.ok(error instanceof Error && error.message.includes(message), String(error))
    }
  )
}

t.test('a global or sticky RegExp does not keep its position', async t => {
  const { app } = await makeApp(t, { origin: /http:\/\/a\.test/gy })
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  for (const round of [1, 2, 3]) {
    t.equal((await shake(t, port, '/', { Origin: 'http://a.test' })).status, 101, `round ${round}`)
  }
})

t.test('a route may have its own rule, and a function receives the request', async t => {
  const { app } = await makeApp(t)
  app.get('/:name', { websocket: { origin: (_origin, request) => request.url === '/yes' } }, () => {})
  const port = await listen(app)
  t.equal((await shake(t, port, '/yes', { Origin: 'http://a.test' })).status, 101)
  t.equal((await shake(t, port, '/no', { Origin: 'http://a.test' })).status, 403)
})

t.test('a refusal logs how to allow the origin, and the page receives no such detail', async t => {
  const { app, log } = await makeApp(t)
  app.get('/', { websocket: true }, () => {})
  const port = await listen(app)
  const response = await shake(t, port, '/', { Origin: 'http://evil.test' })
  t.equal(codeOf(response), 'FST_UPGRADE_FORBIDDEN_ORIGIN')
  t.notMatch(response.body, /evil|option/)
  const line = log.lines.find(({ msg }) => msg.includes('option "origin"'))
  t.match(line, { level: INFO, origin: 'http://evil.test', host: 'localhost' })
  t.equal(log.at(ERROR).length, 0)
  t.ok(handshake('/'))
})
