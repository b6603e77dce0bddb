import { createRequire } from 'node:module'
import upgrade from '../../lib/index.js'
import type { WebSocketPlugin } from './fixtures/application.js'

// Its types declare the same members of Fastify in another way.
const fastifyWebSocket: WebSocketPlugin = createRequire(import.meta.url)('@fastify/websocket')

/** The import of an application. */
export const PACKAGES: readonly (readonly [name: string, plugin: WebSocketPlugin])[] = [
  ['@fastify/websocket', fastifyWebSocket],
  ['fastify-upgrade', upgrade]
]
