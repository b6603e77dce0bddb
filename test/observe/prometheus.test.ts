import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import Fastify from 'fastify'
import { register as globalRegistry, Registry } from 'prom-client'
import t from 'tap'
import type { Broker, BrokerEvents, WebSocket } from '../../lib/index.js'
import { prometheusMetrics } from '../../lib/observe/prometheus.js'
import { connectRaw, handshake, listen, makeApp, ms, open, shake, withDeadline } from '../helpers/app.js'
import { root } from '../helpers/root.js'
import { decode, frame } from '../protocol/wire.js'
import { addRoutes, load, SECRETS } from './load.js'
import { observedApp } from './observed-app.js'

/** A broker whose events the test causes. */
class SilentBroker implements Broker {
  events: BrokerEvents | undefined
  start(events: BrokerEvents): void {
    this.events = events
  }
  async publish(): Promise<void> {}
  async subscribe(): Promise<void> {}
  async unsubscribe(): Promise<void> {}
  async close(): Promise<void> {}
}

/** The sum of the samples of a metric that have these labels. */
async function sum(
  registry: Registry,
  name: string,
  labels: Readonly<Record<string, string>> = {}
): Promise<number> {
  let total = 0
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`)
  for (const line of (await registry.metrics()).split('\n')) {
    const [, metric, set = '', value] = /^([a-z_]+)(\{.*\})? ([^ ]+)$/.exec(line) ?? []
    if (metric === name && wanted.every(label => set.includes(label))) total += Number(value)
  }
  return total
}

t.test('the numbers of a scrape are those that the clients have counted', async t => {
  const registry = new Registry()
  const { app } = await makeApp(t)
  await app.register(prometheusMetrics, { registry, messageSizes: true })
  addRoutes(app)
  const counts = await load(t, app)
  const route = { http_route: '/rooms/:room' }
  const [receive, transmit] = [
    { ...route, network_io_direction: 'receive' },
    { ...route, network_io_direction: 'transmit' }
  ]
  const prefix = 'websocket_server'
  const measured = {
    connections: await sum(registry, `${prefix}_connection_duration_seconds_count`, route),
    messagesSent: await sum(registry, `${prefix}_messages_total`, receive),
    messagesReceived: await sum(registry, `${prefix}_messages_total`, transmit),
    bytesSent: await sum(registry, `${prefix}_io_bytes_total`, receive),
    bytesReceived: await sum(registry, `${prefix}_io_bytes_total`, transmit)
  }
  const { codes, ...expected } = counts
  t.strictSame(measured, expected)
  t.equal(await sum(registry, `${prefix}_message_size_bytes_count`, receive), counts.messagesSent)
  t.equal(await sum(registry, `${prefix}_message_size_bytes_count`, transmit), counts.messagesReceived)
  t.strictSame([...codes.keys()].sort(), ['1001', '1002', '4050'])
  for (const [code, count] of codes) {
    const label = code === '4050' ? '4xxx' : code
    const labels = { ...route, websocket_close_code: label }
    t.equal(await sum(registry, `${prefix}_closed_connections_total`, labels), count, code)
  }
  const handshakes = `${prefix}_handshake_duration_seconds_count`
  const status = (http_response_status_code: string) => ({ http_response_status_code })
  t.equal(await sum(registry, handshakes, { ...route, ...status('101') }), counts.connections)
  t.equal(
    await sum(registry, handshakes, { ...status('403'), error_type: 'FST_UPGRADE_FORBIDDEN_ORIGIN' }),
    1
  )
  t.equal(await sum(registry, handshakes, status('404')), 1)
  t.equal(await sum(registry, `${prefix}_active_connections`), 0)

  const text = await registry.metrics()
  for (const secret of SECRETS) t.notOk(text.replaceAll('"/token"', '').includes(secret), `no ${secret}`)
  t.match(text, 'websocket_subprotocol="echo.v1"')
  t.match(text, 'network_protocol_version="1.1"')
})

t.test('open connections, buffered bytes, drops, limits, errors and the heartbeat are measured', async t => {
  const registry = new Registry()
  const broker = new SilentBroker()
  const { app } = await makeApp(t, {
    broker,
    maxConnections: 3,
    backpressure: 'drop',
    highWaterMark: 10,
    maxBufferedAmount: 100_000,
    heartbeat: { interval: ms(60), timeout: ms(30) }
  })
  await app.register(prometheusMetrics, { registry })
  app.get('/', { websocket: true }, socket => {
    for (let i = 0; i < 3; i++) socket.send('a'.repeat(60_000))
  })
  app.get('/failing', { websocket: true }, () => {
    throw Object.assign(new Error('no'), { code: 'alice' })
  })
  app.get(
    '/hook',
    {
      websocket: true,
      onRequest: async () => Promise.reject(Object.assign(new Error('no'), { code: 'alice' }))
    },
    () => {}
  )
  const port = await listen(app)
  const client = await connectRaw(t, port)
  client.write(handshake('/'))
  await client.head()
  const prefix = 'websocket_server'
  t.equal(await sum(registry, `${prefix}_active_connections`, { http_route: '/' }), 1)
  t.equal(await sum(registry, `${prefix}_messages_total`, { network_io_direction: 'transmit' }), 1, 'so far')
  t.equal(await sum(registry, `${prefix}_dropped_messages_total`), 2)
  t.ok((await sum(registry, `${prefix}_buffered_bytes`)) >= 0)
  broker.events?.onUp()
  t.equal(await sum(registry, `${prefix}_broker_connected`), 1)
  broker.events?.onDown()
  t.match(await registry.metrics(), `${prefix}_broker_connected 0`)
  t.equal(await sum(registry, `${prefix}_broker_events_total`, { websocket_broker_event: 'up' }), 1)
  const failing = await open(t, port, '/failing')
  t.equal(await failing.closed(), '1011')
  t.equal(await sum(registry, `${prefix}_listener_errors_total`, { http_route: '/failing' }), 1)
  const hook = await connectRaw(t, port)
  hook.write(handshake('/hook'))
  t.equal((await hook.head()).status, 500)
  t.equal(await sum(registry, `${prefix}_handshake_duration_seconds_count`, { error_type: '_OTHER' }), 1)
  await client.until(() => decode(client.data).some(({ opcode }) => opcode === 9), 'a ping')
  client.write(frame(10, ''))
  await open(t, port, '/')
  await open(t, port, '/')
  const refused = await connectRaw(t, port)
  refused.write(handshake('/'))
  t.equal((await refused.head()).status, 503)
  t.equal(await sum(registry, `${prefix}_limits_reached_total`, { websocket_limit: 'maxConnections' }), 1)
  while ((await sum(registry, `${prefix}_heartbeat_duration_seconds_count`)) === 0)
    await new Promise(resolve => setTimeout(resolve, 5))
  t.match(await registry.metrics(), 'websocket_server_heartbeat_duration_seconds')
})

t.test('an application that replaces another continues its numbers in the same registry', async t => {
  for (const count of [1, 2]) {
    const { app } = await makeApp(t)
    await app.register(prometheusMetrics)
    app.get('/', { websocket: true }, socket => socket.close(1000))
    const client = await open(t, await listen(app), '/')
    await client.closed()
    await app.close()
    t.equal(await sum(globalRegistry, 'websocket_server_connection_duration_seconds_count'), count)
    t.equal(await sum(globalRegistry, 'websocket_server_active_connections'), 0)
  }
  globalRegistry.clear()
  const { app } = await makeApp(t)
  await app.register(prometheusMetrics)
  t.match(
    await globalRegistry.metrics(),
    'websocket_server_active_connections',
    'a cleared registry is filled again'
  )
})

t.test('connections of another application are left out', async t => {
  const registry = new Registry()
  const { app: other } = await makeApp(t, { heartbeat: { interval: ms(60), timeout: ms(30) } })
  const { app } = await makeApp(t)
  await app.register(prometheusMetrics, { registry, messageSizes: true })
  const handler = (socket: WebSocket): void => {
    socket.on('message', data => {
      if (String(data) === 'fail') throw new Error('no')
      socket.send('echo')
    })
  }
  other.get('/', { websocket: { maxPayload: 10 } }, handler)
  app.get('/', { websocket: { maxPayload: 10 } }, handler)
  const port = await listen(other)
  t.equal((await shake(t, port, '/', { Origin: 'http://other.example' })).status, 403)
  for (const message of ['fail', 'more than ten bytes']) {
    const client = await open(t, port, '/')
    client.socket.send(message)
    await client.closed()
  }
  const client = await open(t, port, '/')
  client.socket.send('a')
  t.equal(await client.next(), 'echo')
  await withDeadline(once(client.socket, 'ping'), 10_000, 'ping')
  await other.close()
  t.notMatch(await registry.metrics(), 'http_route')

  const own = await open(t, await listen(app), '/')
  own.socket.send('more than ten bytes')
  await own.closed()
  t.equal(
    await sum(registry, 'websocket_server_limits_reached_total', {
      websocket_limit: 'maxPayload',
      http_route: '/'
    }),
    1
  )
})

t.test('a connection that outlives the hooks of app.close() is no longer counted as active', async t => {
  const registry = new Registry()
  const apps = []
  for (const path of ['/staying', '/closing']) {
    const { app } = await makeApp(t, { shutdown: { timeout: ms(500) } }, { pluginTimeout: ms(100) })
    await app.register(prometheusMetrics, { registry })
    app.get(path, { websocket: true }, socket => void socket.send('hello'))
    const client = await connectRaw(t, await listen(app))
    client.write(handshake(path))
    await client.head()
    apps.push(app)
  }
  await apps[1]?.close()
  const active = 'websocket_server_active_connections'
  t.equal(await sum(registry, active, { http_route: '/staying' }), 1)
  t.equal(await sum(registry, active, { http_route: '/closing' }), 0)
  const sent = { network_io_direction: 'transmit', http_route: '/closing' }
  t.equal(await sum(registry, 'websocket_server_messages_total', sent), 1, 'its messages stay')
})

t.test('the registration adds no route', async t => {
  const { app } = await makeApp(t)
  const urls: string[] = []
  app.addHook('onRoute', ({ url }) => void urls.push(url))
  await app.register(prometheusMetrics, { registry: new Registry() })
  await app.ready()
  t.strictSame(urls, [])
})

t.test('without fastify-upgrade the registration fails', async t => {
  const app = Fastify()
  await t.rejects(Promise.resolve(app.register(prometheusMetrics)), {
    code: 'FST_ERR_PLUGIN_DEPENDENCY_NOT_REGISTERED'
  })
})

t.test('the dashboard asks for metrics and labels that a scrape of a loaded application has', async t => {
  const registry = new Registry()
  await observedApp(t, app => app.register(prometheusMetrics, { registry, messageSizes: true }))
  const samples = (await registry.metrics()).split('\n').flatMap(line => {
    const [, metric, labels = ''] = /^([a-z_]+)(?:\{(.*)\})? [^ ]+$/.exec(line) ?? []
    return metric === undefined
      ? []
      : [{ metric, labels: Array.from(labels.matchAll(/[a-z_]+(?==")/g), String) }]
  })
  const text = readFileSync(join(root, 'docs/dashboards/grafana.json'), 'utf8')
  const used = new Set<string>()
  for (const [, query = ''] of text.matchAll(
    /"(?:expr|query)": "((?:[^"\\]|\\.)*websocket(?:[^"\\]|\\.)*)"/g
  )) {
    const metrics = query.match(/websocket_server_[a-z_]+/g) ?? []
    t.ok(metrics.length > 0, query)
    // Prometheus itself adds these two.
    const labels = labelsIn(query).filter(label => label !== 'job' && label !== 'instance')
    for (const metric of metrics) {
      used.add(metric.replace(/_(bucket|count|sum)$/, ''))
      const found = samples.some(
        one => one.metric === metric && labels.every(label => one.labels.includes(label))
      )
      t.ok(found, `${metric} has ${labels.join(', ') || 'no labels'}`)
    }
  }
  const names = registry.getMetricsAsArray().map(({ name }) => name)
  t.strictSame([...used].sort(), [...names].sort(), 'every metric is on the dashboard')
})

/** The labels that a query of Prometheus names. */
function labelsIn(query: string): string[] {
  const lists = Array.from(query.matchAll(/by \(([^)]*)\)/g), ([, list = '']) => list.split(','))
  const selectors = Array.from(query.matchAll(/([a-z_]+)=~?\\"/g), ([, label = '']) => [label])
  return [...new Set([...lists, ...selectors].flat().map(label => label.trim()))]
}

t.test('the labels of a query are found', async t => {
  const query = 'sum by (le, a_b) (rate(x{job=~\\"$job\\",c=\\"d\\"}[5m]))'
  t.strictSame(labelsIn(query), ['le', 'a_b', 'job', 'c'])
})

t.test('the broker, recoveries and gaps are measured', async t => {
  const registry = new Registry()
  await observedApp(t, app => app.register(prometheusMetrics, { registry }))
  const prefix = 'websocket_server'
  const of = (name: string, labels = {}): Promise<number> => sum(registry, `${prefix}_${name}`, labels)
  t.strictSame(
    {
      messages: await of('broker_publish_duration_seconds_count', {
        websocket_broker_publication: 'message'
      }),
      history: await of('broker_publish_duration_seconds_count', { websocket_broker_publication: 'history' }),
      refused: await of('broker_publish_duration_seconds_count', {
        error_type: 'FST_UPGRADE_BROKER_PUBLISH'
      }),
      pending: await of('broker_pending_bytes'),
      lag: await of('history_lag'),
      recovered: await of('history_recoveries_total', { websocket_history_recovered: 'true' }),
      notRecovered: await of('history_recoveries_total', { websocket_history_recovered: 'false' }),
      recoveredMessages: await of('history_recovered_messages_total'),
      filled: await of('history_gaps_total', { websocket_history_filled: 'true' }),
      filledMessages: await of('history_filled_messages_total'),
      timeouts: await of('limits_reached_total', {
        websocket_limit: 'handshakeTimeout',
        http_route: '/never'
      })
    },
    {
      messages: 2,
      history: 6,
      refused: 1,
      pending: 0,
      lag: 0,
      recovered: 1,
      notRecovered: 1,
      recoveredMessages: 1,
      filled: 1,
      filledMessages: 2,
      timeouts: 1
    }
  )
})

t.test('no address, user, topic or URL is in a scrape of a loaded application', async t => {
  const registry = new Registry()
  await observedApp(t, app => app.register(prometheusMetrics, { registry, messageSizes: true }))
  const text = await registry.metrics()
  t.match(text, 'http_route="/rooms/:room"')
  for (const secret of SECRETS) t.notOk(text.includes(secret), `no ${secret}`)
})

t.test('what another application publishes, recovers and misses is left out', async t => {
  const registry = new Registry()
  const { app } = await makeApp(t)
  await app.register(prometheusMetrics, { registry })
  await observedApp(t, async () => {})
  const text = await registry.metrics()
  t.notMatch(text, 'websocket_history_')
  t.notMatch(text, 'websocket_broker_publication')
  t.notMatch(text, '/never')
})
