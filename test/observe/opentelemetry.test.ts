import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader
} from '@opentelemetry/sdk-metrics'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import upgrade from '../../lib/index.js'
import { opentelemetryMetrics } from '../../lib/observe/opentelemetry.js'
import { makeApp } from '../helpers/app.js'
import { addRoutes, load, SECRETS } from './load.js'

interface Exported {
  readonly provider: MeterProvider
  /** The sum of the values of a metric, or of the counts of a histogram, with these attributes. */
  sum(name: string, attributes?: Readonly<Record<string, string>>): Promise<number>
  text(): Promise<string>
}

function exported(t: Test): Exported {
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })
  const provider = new MeterProvider({ readers: [reader] })
  t.teardown(() => provider.shutdown())
  const collect = async () => {
    exporter.reset()
    await reader.forceFlush()
    return exporter.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics.flatMap(({ metrics }) => metrics))
  }
  return {
    provider,
    sum: async (name, attributes = {}) => {
      let total = 0
      for (const { descriptor, dataPoints } of await collect()) {
        if (descriptor.name !== name) continue
        for (const { attributes: own, value } of dataPoints) {
          if (Object.entries(attributes).every(([key, wanted]) => own[key] === wanted))
            total += typeof value === 'number' ? value : 'count' in value ? value.count : 0
        }
      }
      return total
    },
    text: async () => JSON.stringify(await collect())
  }
}

t.test('the exported numbers are those that the clients have counted', async t => {
  const { provider, sum, text } = exported(t)
  const { app } = await makeApp(t)
  await app.register(opentelemetryMetrics, { meterProvider: provider, messageSizes: true })
  addRoutes(app)
  const { codes, ...expected } = await load(t, app)
  const route = { 'http.route': '/rooms/:room' }
  const receive = { ...route, 'network.io.direction': 'receive' }
  const transmit = { ...route, 'network.io.direction': 'transmit' }
  t.strictSame(
    {
      connections: await sum('websocket.server.connection.duration', route),
      messagesSent: await sum('websocket.server.messages', receive),
      messagesReceived: await sum('websocket.server.messages', transmit),
      bytesSent: await sum('websocket.server.io', receive),
      bytesReceived: await sum('websocket.server.io', transmit)
    },
    expected
  )
  t.equal(await sum('websocket.server.message.size', receive), expected.messagesSent)
  for (const [code, count] of codes) {
    const attributes = { ...route, 'websocket.close.code': code === '4050' ? '4xxx' : code }
    t.equal(await sum('websocket.server.closed_connections', attributes), count, code)
  }
  const accepted = { ...route, 'http.response.status_code': '101' }
  t.equal(await sum('websocket.server.handshake.duration', accepted), expected.connections)
  t.equal(await sum('websocket.server.active_connections'), 0)
  const all = await text()
  for (const secret of SECRETS) t.notOk(all.replaceAll('"/token"', '').includes(secret), `no ${secret}`)
})

t.test('an application that replaces another continues its numbers with the same provider', async t => {
  const { provider, sum } = exported(t)
  for (let i = 0; i < 2; i++) {
    const { app } = await makeApp(t)
    await app.register(opentelemetryMetrics, { meterProvider: provider })
    app.get('/', { websocket: true }, socket => socket.close(1000))
    await (await app.injectWS('/')).close()
    await app.close()
  }
  t.equal(await sum('websocket.server.connection.duration'), 2)
})

t.test('a connection over HTTP/2 has its version and its status', async t => {
  const { provider, sum } = exported(t)
  const app = Fastify({ http2: true })
  t.teardown(() => app.close())
  await app.register(upgrade)
  await app.register(opentelemetryMetrics, { meterProvider: provider })
  app.get('/', { websocket: true }, () => {})
  await app.injectWS('/', { httpVersion: 2 })
  const version = { 'network.protocol.version': '2' }
  const accepted = { ...version, 'http.response.status_code': '200' }
  t.equal(await sum('websocket.server.handshake.duration', accepted), 1)
  t.equal(await sum('websocket.server.active_connections', version), 1)
})

t.test('without an SDK nothing is recorded', async t => {
  const { app } = await makeApp(t)
  await app.register(opentelemetryMetrics)
  app.get('/', { websocket: true }, socket => socket.close(1000))
  const client = await app.injectWS('/')
  t.ok(client)
})
