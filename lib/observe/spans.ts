import {
  context,
  propagation,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  type TracerProvider,
  trace
} from '@opentelemetry/api'
import type { FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import {
  type ConnectionClosed,
  type ConnectionOpened,
  connectionClosed,
  connectionOpened,
  type DiagnosedSocket
} from '../diagnostics.js'
import type { ConnectionTracer, Opening } from '../fastify/tracer.js'
import type { WebSocketServer } from '../fastify/websocket-server.js'
import { invalidOption } from '../options/error.js'
import { INTERNAL_ERROR } from '../protocol/close-code.js'
import {
  attributesOf,
  CLOSE_CODE,
  codeOf,
  ERROR,
  errorType,
  ROUTE,
  SUBPROTOCOL,
  VERSION,
  versionOf
} from './metrics.js'

/** Options of {@link opentelemetrySpans}. */
export interface SpanOptions {
  /** Default: the global provider of `@opentelemetry/api` at the time of the registration. */
  readonly tracerProvider?: TracerProvider | undefined
  /**
   * The share of messages that get a span, 0 to 1: 0.01 is one message in a hundred. The span lasts until the `message`
   * listeners are done, and is active in them. Messages that an iterator or a stream reads get no span. The sampler of the SDK
   * applies to the selected messages. Default: 0.
   */
  readonly messages?: number | undefined
}

/**
 * Records a span for each connection of `websocketServer` with OpenTelemetry, and spans for a share of the messages. Start the
 * SDK first, then register this after fastify-upgrade, in the same scope. Register it once: a later registration replaces an
 * earlier one.
 * @throws `FST_ERR_PLUGIN_DEPENDENCY_NOT_REGISTERED` when fastify-upgrade is not registered.
 * @throws {TypeError} `FST_UPGRADE_INVALID_OPTION` when `messages` is not a number from 0 to 1.
 */
export const opentelemetrySpans: FastifyPluginAsync<SpanOptions> = fp(
  async (app, { tracerProvider = trace.getTracerProvider(), messages = 0 }: SpanOptions) => {
    if (typeof messages !== 'number' || !(messages >= 0 && messages <= 1))
      throw invalidOption('messages', 'a number from 0 to 1', messages)
    const { websocketServer } = app
    const spans = new Spans(websocketServer, tracerProvider.getTracer('fastify-upgrade'), messages)
    websocketServer.tracer = spans
    app.addHook('onClose', async () => spans.close())
  },
  { fastify: '5.x', name: 'fastify-upgrade/opentelemetry-spans', dependencies: ['fastify-upgrade'] }
)

/** The spans of the connections of a server. No attribute has an address, a URL, a user or the text of an error. */
class Spans implements ConnectionTracer {
  readonly #server: WebSocketServer
  readonly #tracer: Tracer
  readonly #share: number
  readonly #connections = new Map<DiagnosedSocket, { readonly span: Span; readonly route: string }>()
  /** The span of the connection that is being opened. */
  #opening: Span | undefined

  constructor(server: WebSocketServer, tracer: Tracer, share: number) {
    this.#server = server
    this.#tracer = tracer
    this.#share = share
    connectionOpened.subscribe(this.#onOpened)
    connectionClosed.subscribe(this.#onClosed)
  }

  /** Ends the spans of connections that outlive the application. */
  close(): void {
    connectionOpened.unsubscribe(this.#onOpened)
    connectionClosed.unsubscribe(this.#onClosed)
    for (const { span } of this.#connections.values()) span.end()
    this.#connections.clear()
  }

  get messageTracer(): ConnectionTracer['messageTracer'] {
    return this.#share > 0 ? this : undefined
  }

  traceConnection({ request, route, subprotocol }: Opening, open: () => void): void {
    const active = context.active()
    const hasParent = trace.getSpan(active) !== undefined
    const parent = hasParent ? active : propagation.extract(active, request.headers)
    const span = this.#tracer.startSpan(
      `websocket.connection ${route}`,
      {
        // Another instrumentation has a span for the request.
        kind: hasParent ? SpanKind.INTERNAL : SpanKind.SERVER,
        attributes: attributesOf({
          [ROUTE]: route,
          [SUBPROTOCOL]: subprotocol,
          [VERSION]: versionOf(request)
        })
      },
      parent
    )
    this.#opening = span
    try {
      context.with(trace.setSpan(parent, span), open)
    } finally {
      if (this.#opening === span) this.#fail(span)
    }
  }

  /** The connection has not opened. */
  #fail(span: Span): void {
    this.#opening = undefined
    span.setStatus({ code: SpanStatusCode.ERROR })
    span.end()
  }

  readonly #onOpened = ({ server, socket, route }: ConnectionOpened): void => {
    if (server !== this.#server || this.#opening === undefined) return
    this.#connections.set(socket, { span: this.#opening, route })
    this.#opening = undefined
  }

  readonly #onClosed = ({ socket, code, cause, ...traffic }: ConnectionClosed): void => {
    const span = this.#connections.get(socket)?.span
    if (span === undefined) return
    this.#connections.delete(socket)
    span.setAttributes({
      ...attributesOf({ [ERROR]: errorType(cause) }),
      [CLOSE_CODE]: code,
      'websocket.messages.received': traffic.messagesReceived,
      'websocket.messages.sent': traffic.messagesSent,
      'websocket.bytes.received': traffic.bytesReceived,
      'websocket.bytes.sent': traffic.bytesSent
    })
    // An error of the application, as a 5xx is for a request.
    if (code === INTERNAL_ERROR) span.setStatus({ code: SpanStatusCode.ERROR })
    span.end()
  }

  traceMessage(
    socket: DiagnosedSocket,
    isBinary: boolean,
    deliver: () => readonly PromiseLike<unknown>[]
  ): void {
    const connection = Math.random() < this.#share ? this.#connections.get(socket) : undefined
    if (connection === undefined) {
      deliver()
      return
    }
    const { span: owner, route } = connection
    const span = this.#tracer.startSpan(
      `websocket.message ${route}`,
      {
        // A trace of its own, as a connection may have any number of messages.
        root: true,
        kind: SpanKind.CONSUMER,
        links: [{ context: owner.spanContext() }],
        attributes: { [ROUTE]: route, 'websocket.message.type': isBinary ? 'binary' : 'text' }
      },
      ROOT_CONTEXT
    )
    const end = (): void => span.end()
    const fail = (error: unknown): void => {
      span.setAttributes(attributesOf({ [ERROR]: errorType(codeOf(error)) }))
      span.setStatus({ code: SpanStatusCode.ERROR })
    }
    try {
      const pending = context.with(trace.setSpan(context.active(), span), deliver)
      if (pending.length === 0) end()
      else void Promise.all(pending).catch(fail).then(end)
    } catch (error) {
      fail(error)
      end()
      throw error
    }
  }
}
