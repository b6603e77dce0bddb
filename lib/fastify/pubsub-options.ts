import type { FastifyUpgradeOptions, TopicChoice, WebSocketRouteOptions } from '../../types/options.js'
import type { Broker } from '../brokers/broker.js'
import { hasMethods } from '../brokers/methods.js'
import { MAX_INT32 } from '../options/connection-settings.js'
import { invalidOption } from '../options/error.js'
import { checkFunction, checkNames, readNumber } from '../options/option-check.js'
import type { PresenceSettings } from '../topics/presences.js'

const BROKER_METHODS = ['start', 'publish', 'subscribe', 'unsubscribe', 'close']

export function readBroker({ broker }: FastifyUpgradeOptions): Broker | undefined {
  if (broker === undefined) return undefined
  if (hasMethods(broker, BROKER_METHODS)) return broker
  throw invalidOption('broker', `an object with the methods ${BROKER_METHODS.join(', ')}`, broker)
}

export function readPresence({ presence = {} }: FastifyUpgradeOptions): PresenceSettings {
  if (typeof presence !== 'object' || presence === null)
    throw invalidOption('presence', 'an object', presence)
  checkNames(presence, ['interval', 'timeout'], 'presence.')
  const interval = readNumber(presence.interval, 'presence.interval', { default: 5_000, max: MAX_INT32 - 1 })
  // One that is late by a moment is not gone.
  const patience = { default: Math.min(3 * interval, MAX_INT32), min: interval + 1, max: MAX_INT32 }
  return { interval, timeout: readNumber(presence.timeout, 'presence.timeout', patience) }
}

/** The topics of a route; undefined when it has none. */
export function readTopics({ topics }: WebSocketRouteOptions): TopicChoice | undefined {
  checkFunction(topics, 'websocket.topics')
  return topics
}
