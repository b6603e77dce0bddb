import { FastifyOtelInstrumentation } from '@fastify/otel'
import { context, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor
} from '@opentelemetry/sdk-trace-base'
import t, { type Test } from 'tap'
import upgrade from '../../lib/index.js'
import { bareApp, listen, open, shake } from '../helpers/app.js'

context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())

/** An application with both, registered in either order, and the ended spans. */
async function start(t: Test, order: 'before' | 'after') {
  const exporter = new InMemorySpanExporter()
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
  const otel = new FastifyOtelInstrumentation()
  otel.setTracerProvider(provider)
  const { app } = bareApp(t)
  if (order === 'before') await app.register(otel.plugin())
  await app.register(upgrade)
  if (order === 'after') await app.register(otel.plugin())
  const traceOf = (): string => trace.getActiveSpan()?.spanContext().traceId ?? 'no span'
  app.addHook('preHandler', async function authenticate({ headers }, reply) {
    if (headers['x-refused'] !== undefined) return reply.code(403).send()
    if (headers['x-broken'] !== undefined) throw new Error('broken')
  })
  app.get('/rooms/:room', { websocket: true }, async function enter(socket) {
    socket.send(traceOf())
    socket.on('message', async () => {
      await new Promise(setImmediate)
      const span = provider.getTracer('test').startSpan('message')
      socket.send(traceOf())
      span.end()
    })
    socket.on('close', () => provider.getTracer('test').startSpan('close').end())
  })
  const spans = (): ReadableSpan[] => exporter.getFinishedSpans()
  return { app, spans, port: await listen(app) }
}

const named = (spans: ReadableSpan[], name: RegExp): ReadableSpan[] =>
  spans.filter(span => name.test(span.name))

for (const order of ['before', 'after'] as const) {
  t.test(`@fastify/otel, registered ${order} the plugin, traces handshakes`, async t => {
    const { spans, port } = await start(t, order)
    const client = await open(t, port, '/rooms/one?x=1')
    const traceId = await client.next()
    client.socket.send('hello')
    t.equal(await client.next(), traceId, 'listeners run in the trace of the handshake')

    const [request, ...others] = named(spans(), /^request$/)
    t.equal(others.length, 0)
    t.equal(request?.spanContext().traceId, traceId)
    t.equal(request?.kind, SpanKind.SERVER)
    t.match(request?.attributes, {
      'http.route': '/rooms/:room',
      'http.request.method': 'GET',
      'http.response.status_code': 101
    })
    t.equal(request?.ended, true, 'ended with the 101, not with the connection')
    const [hook] = named(spans(), /^preHandler - authenticate$/)
    const [handler] = named(spans(), /^handler - /)
    for (const span of [hook, handler]) {
      t.equal(span?.parentSpanContext?.spanId, request?.spanContext().spanId, span?.name)
    }
    const [message] = named(spans(), /^message$/)
    t.equal(message?.spanContext().traceId, traceId)
  })
}

t.test('@fastify/otel: refused handshakes have spans with their status', async t => {
  const { spans, port } = await start(t, 'before')
  await shake(t, port, '/rooms/one', { 'X-Refused': '1' })
  await shake(t, port, '/rooms/one', { 'X-Broken': '1' })
  await shake(t, port, '/rooms/one', { 'Sec-WebSocket-Version': '8' })
  const attributes = named(spans(), /^request$/).map(({ attributes, status }) => [
    attributes['http.response.status_code'],
    status.code
  ])
  t.strictSame(attributes, [
    [403, SpanStatusCode.UNSET],
    [500, SpanStatusCode.ERROR],
    [426, SpanStatusCode.ERROR]
  ])
})
