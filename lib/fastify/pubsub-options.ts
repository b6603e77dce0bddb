import type { FastifyUpgradeOptions, TopicChoice, WebSocketRouteOptions } from '../../types/options.js'
import type { Broker } from '../brokers/broker.js'
import { MAX_INT32 } from '../options/connection-settings.js'
import { invalidOption } from '../options/error.js'
import { checkFunction, checkNames, readNumber } from '../options/option-check.js'
import type { PresenceSettings } from '../topics/presence-manager.js'

const BROKER_METHODS = ['start', 'publish', 'subscribe', 'unsubscribe', 'close']

export function readBroker({ broker }: FastifyUpgradeOptions): Broker | undefined {
  if (broker === undefined) return undefined
  if (BROKER_METHODS.every(name => typeof Reflect.get(Object(broker), name) === 'function')) return broker
  throw invalidOption('broker', `an object with the methods ${BROKER_METHODS.join(', ')}`, broker)
}

export function readPresence({ presence = {} }: FastifyUpgradeOptions): PresenceSettings {
  if (typeof presence !== 'object' || presence === null)
    throw invalidOption('presence', 'an object', presence)
  checkNames(presence, ['interval', 'timeout'], 'presence.')
  const interval = readNumber(presence.interval, 'presence.interval', { default: 5_000, max: MAX_INT32 - 1 })
  // Longer than the interval, as a report may be slightly late.
  const range = { default: Math.min(3 * interval, MAX_INT32), min: interval + 1, max: MAX_INT32 }
  return { interval, timeout: readNumber(presence.timeout, 'presence.timeout', range) }
}

/** @returns the `topics` function of a route, or undefined if it has none. */
export function readTopics({ topics }: WebSocketRouteOptions): TopicChoice | undefined {
  checkFunction(topics, 'websocket.topics')
  return topics
}
