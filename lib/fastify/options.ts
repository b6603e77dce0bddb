import type {
  FastifyUpgradeOptions,
  TopicChoice,
  WebSocketOptions,
  WebSocketRouteOptions
} from '../../types/options.js'
import type { Broker } from '../brokers/broker.js'
import { BufferBudget } from '../limits/buffer-budget.js'
import { SlotsByKey } from '../limits/connection-limiter.js'
import type { BudgetOptions } from '../options/connection-options.js'
import {
  type ConnectionSettings,
  readConnectionSettings,
  readTotalBufferedAmount
} from '../options/connection-settings.js'
import { invalidOption } from '../options/error.js'
import { checkNames, checkOptions, readOptions, withoutUndefined } from '../options/option.js'
import {
  HANDSHAKE_OPTIONS,
  HISTORY_LIMITS,
  isHistoryLimits,
  namesIn,
  PLUGIN_OPTIONS,
  ROUTE_OPTIONS,
  SERVER_OPTIONS,
  type ShutdownSettings,
  USER_LIMITS,
  USER_OPTIONS
} from '../options/table.js'
import { toCloseTimeout, toMaxPayload, withoutNull } from '../options/ws-values.js'
import type { HistoryOption } from '../topics/history.js'
import type { ReportSettings } from '../topics/report-timer.js'
import { type OriginOption, readOrigin } from './handshake/origin.js'
import type { DeliverPublication } from './websocket.js'

/** The options of a route with every default filled in. */
export interface Settings
  extends ConnectionSettings,
    Pick<
      WebSocketOptions,
      'errorHandler' | 'invalidMessage' | 'closeLogLevel' | 'selectSubprotocol' | 'user' | 'expires'
    > {
  /** Shared by all connections of the server. */
  readonly budget: BufferBudget
  readonly origin: OriginOption
  readonly expiredCode: number
}

/** The options of the plugin as a whole. */
export interface PluginSettings {
  readonly shutdown: ShutdownSettings
  readonly presence: ReportSettings
  readonly broker: Broker | undefined
  /** Whether WebSockets over HTTP/2 are on, where the server speaks it. */
  readonly http2: boolean
  readonly history: HistoryOption | undefined
  readonly maxRecoveredPublications: number
}

/** Fastify's own options of `register`. */
export const FASTIFY_OPTIONS = ['prefix', 'logLevel', 'logSerializers']

/** The defaults of the routes. */
export function readPluginOptions(options: FastifyUpgradeOptions): Settings {
  checkNames(options, [...namesIn('plugin'), ...FASTIFY_OPTIONS], '')
  return readSettings({ ...readServerOptions(options.options), ...withoutUndefined(options) }, '', undefined)
}

export function readPluginSettings(options: FastifyUpgradeOptions): PluginSettings {
  const { shutdown, presence, http2, maxRecoveredPublications } = readOptions(PLUGIN_OPTIONS, options, {
    prefix: ''
  })
  const history = checkingLimits(options.history)
  return { shutdown, presence, broker: options.broker, http2, history, maxRecoveredPublications }
}

/** The function of the application may return anything. */
function checkingLimits(history: HistoryOption | undefined): HistoryOption | undefined {
  if (typeof history !== 'function') return history
  return topic => {
    const limits: unknown = history(topic)
    if (limits === undefined || isHistoryLimits(limits)) return limits
    throw invalidOption('history(topic)', HISTORY_LIMITS, limits)
  }
}

/** @returns the limit of connections of each user, as a list that is empty without a limit. */
export function readUserLimit(options: WebSocketOptions, prefix = ''): readonly SlotsByKey[] {
  const { maxConnectionsPerUser } = readOptions(USER_LIMITS, options, { prefix })
  return maxConnectionsPerUser === false ? [] : [new SlotsByKey(maxConnectionsPerUser)]
}

/** The settings of a route: its own, else those of the plugin. */
export function readRouteOptions(options: WebSocketRouteOptions, defaults: Settings): Settings {
  checkNames(options, namesIn('route'), 'websocket.')
  return readSettings(options, 'websocket.', defaults)
}

/** The options that only a route has. */
export function readRouteChoices(options: WebSocketRouteOptions): {
  /** Undefined when the route registers none. */
  readonly subprotocols: readonly string[] | undefined
  readonly topics: TopicChoice | undefined
  readonly deliver: DeliverPublication | undefined
} {
  const { subprotocol } = readOptions(ROUTE_OPTIONS, options, { prefix: 'websocket.' })
  return {
    subprotocols: subprotocol === undefined ? undefined : [subprotocol].flat(),
    topics: options.topics,
    deliver: options.deliver
  }
}

function readSettings(
  options: WebSocketOptions & BudgetOptions,
  prefix: string,
  defaults: Settings | undefined
): Settings {
  checkOptions(HANDSHAKE_OPTIONS, options, prefix)
  const { expiredCode } = readOptions(USER_OPTIONS, options, { prefix, inherited: defaults })
  const { errorHandler, invalidMessage, closeLogLevel, selectSubprotocol, user, expires } = options
  return {
    ...readConnectionSettings(options, prefix, defaults),
    budget: defaults?.budget ?? new BufferBudget(readTotalBufferedAmount(options)),
    origin: readOrigin(options.origin, `${prefix}origin`) ?? defaults?.origin ?? 'same-origin',
    errorHandler: errorHandler ?? defaults?.errorHandler,
    invalidMessage: invalidMessage ?? defaults?.invalidMessage,
    closeLogLevel: closeLogLevel ?? defaults?.closeLogLevel,
    selectSubprotocol: selectSubprotocol ?? defaults?.selectSubprotocol,
    user: user ?? defaults?.user,
    expires: expires ?? defaults?.expires,
    expiredCode
  }
}

/** The options under names of `ws` that the plugin has too. The callbacks among the others are read at each handshake. */
function readServerOptions(given: FastifyUpgradeOptions['options'] = {}): WebSocketOptions {
  if (typeof given !== 'object' || given === null) throw invalidOption('options', 'an object', given)
  const options = withoutNull(given)
  checkOptions(SERVER_OPTIONS, options, 'options.')
  checkNames(options, Object.keys(SERVER_OPTIONS), 'options.')
  const { maxPayload, closeTimeout, perMessageDeflate } = options
  return withoutUndefined({
    maxPayload: toMaxPayload(maxPayload),
    closeTimeout: toCloseTimeout(closeTimeout),
    perMessageDeflate
  })
}
