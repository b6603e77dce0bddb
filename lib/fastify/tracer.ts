import type { IncomingMessage } from 'node:http'
import type { DiagnosedSocket } from '../diagnostics.js'
import type { MessageTracer } from '../socket/options.js'

/** A connection that is about to open. */
export interface Opening {
  readonly request: IncomingMessage
  /** The path of the route with the names of its parameters. */
  readonly route: string
  /** The subprotocol, if the route registered it. */
  readonly subprotocol: string | undefined
}

/** Opens the connections of a server, and calls their listeners, each in a scope such as a span. */
export interface ConnectionTracer {
  /** Calls the listeners of new connections; undefined when none of their messages gets a scope of its own. */
  readonly messageTracer: MessageTracer<DiagnosedSocket> | undefined
  /** Calls `open` once, at once. The handler and all listeners run in the async context of this call. */
  traceConnection(opening: Opening, open: () => void): void
}
