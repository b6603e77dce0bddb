import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import type { Option, OptionTable } from '../../lib/options/option.js'
import {
  ASYNCAPI_OPTIONS,
  CONNECTION_OPTIONS,
  HANDSHAKE_OPTIONS,
  namesIn,
  PLUGIN_OPTIONS,
  ROUTE_OPTIONS,
  SECTIONS,
  SERVER_OPTIONS,
  WS_OPTIONS
} from '../../lib/options/table.js'
import { propertiesOf } from '../helpers/interfaces.js'
import { root } from '../helpers/root.js'

const { autoPong: _, clientTracking: __, skipUTF8Validation: ___, ...serverOptions } = SERVER_OPTIONS

/** The options as `fastify-upgrade/ws` defines them. */
function inWs(options: OptionTable): OptionTable {
  const entries = Object.entries(options).flatMap(([name, option]) =>
    option.wsDefault === undefined
      ? []
      : [[name, { ...option, defaultText: option.wsDefault ? String(option.wsDefault) : '`false`' }] as const]
  )
  return Object.fromEntries(entries)
}

const INTERFACES: readonly (readonly [file: string, name: string, table: OptionTable | undefined])[] = [
  ['lib/options/connection-options.ts', 'ConnectionOptions', CONNECTION_OPTIONS],
  ['lib/options/connection-options.ts', 'HeartbeatOptions', CONNECTION_OPTIONS.heartbeat.nested],
  [
    'lib/options/connection-options.ts',
    'PerMessageDeflateOptions',
    CONNECTION_OPTIONS.perMessageDeflate.nested
  ],
  ['lib/options/connection-options.ts', 'RateLimitOptions', CONNECTION_OPTIONS.rateLimit.nested],
  ['lib/options/connection-options.ts', 'ConnectionLimitOptions', SECTIONS.limits.options],
  ['lib/options/connection-options.ts', 'BudgetOptions', SECTIONS.budget.options],
  ['types/options.ts', 'WebSocketOptions', { ...HANDSHAKE_OPTIONS, ...SECTIONS.users.options }],
  ['types/options.ts', 'WebSocketRouteOptions', ROUTE_OPTIONS],
  ['types/options.ts', 'FastifyUpgradeOptions', PLUGIN_OPTIONS],
  // The types lack the options that accept a single value only.
  ['types/options.ts', 'ServerOptions', serverOptions],
  ['types/options.ts', 'ShutdownOptions', PLUGIN_OPTIONS.shutdown.nested],
  ['types/options.ts', 'PresenceOptions', PLUGIN_OPTIONS.presence.nested],
  ['lib/asyncapi/options.ts', 'AsyncApiOptions', ASYNCAPI_OPTIONS],
  ['lib/ws/options.ts', 'ServerOptions', { ...WS_OPTIONS, ...inWs(CONNECTION_OPTIONS) }]
]

for (const [file, name, table = {}] of INTERFACES) {
  t.test(`${name} of ${file} has the options of the table, with their descriptions`, async t => {
    const properties = propertiesOf(readFileSync(join(root, file), 'utf8'), name)
    t.strictSame(properties.map(property => property.name).sort(), Object.keys(table).sort())
    for (const property of properties) {
      const { description = '', defaultText = '' } = table[property.name] ?? {}
      t.ok(property.comment.startsWith(description), `${property.name}: ${property.comment}`)
      const [, named] = /Default: (.+)\.$/.exec(property.comment) ?? []
      if (named !== undefined) t.equal(named, defaultText, `the default of ${property.name}`)
    }
  })
}

/** All options of a table, including those of nested objects, with their full names. */
function allOf(table: OptionTable, prefix = ''): readonly (readonly [name: string, option: Option])[] {
  return Object.entries(table).flatMap(([name, option]) => [
    [prefix + name, option] as const,
    ...allOf(option.nested ?? {}, `${prefix}${name}.`)
  ])
}

t.test('each option is described in sentences, and accepts its own default', async t => {
  for (const { options } of Object.values(SECTIONS)) {
    for (const [name, option] of allOf(options)) {
      t.match(option.description, /^[A-Z`].*\.$/, name)
      t.not(option.values, '', name)
      t.not(option.defaultText, '', name)
    }
    for (const [name, option] of Object.entries(options)) {
      const value = option.getDefault({})
      if (value !== undefined) t.strictSame(option.read(value, name, {}), value, name)
    }
  }
})

t.test('no name occurs twice in a scope', async t => {
  for (const scope of ['plugin', 'route', 'ws'] as const) {
    const names = namesIn(scope)
    t.equal(new Set(names).size, names.length, scope)
    t.ok(names.includes('maxPayload'), scope)
  }
})
