// Checked by `tsc`, never run.
import { expectTypeOf } from 'expect-type'
import type { FastifyUpgradeOptions, HeartbeatOptions, WebSocketRouteOptions } from '../../lib/index.js'
import type { ConnectionOptions } from '../../lib/options/connection-options.js'
import type { ConnectionSettings } from '../../lib/options/connection-settings.js'
import type { HeartbeatSettings, NameIn } from '../../lib/options/table.js'
import type { ServerOptions } from '../../lib/ws/index.js'

// ---- the names of the public types equal those of the table, scope by scope

expectTypeOf<keyof FastifyUpgradeOptions>().toEqualTypeOf<NameIn<'plugin'>>()
expectTypeOf<keyof WebSocketRouteOptions>().toEqualTypeOf<NameIn<'route'>>()
expectTypeOf<keyof ServerOptions>().toEqualTypeOf<NameIn<'ws'>>()

// ---- options that are not objects have the types of the table

type Given<Options> = { readonly [Name in keyof Options]-?: Exclude<Options[Name], undefined> }
type Nested = 'heartbeat' | 'perMessageDeflate' | 'rateLimit'

expectTypeOf<Given<Omit<ConnectionOptions, Nested>>>().toEqualTypeOf<Omit<ConnectionSettings, Nested>>()
expectTypeOf<Given<HeartbeatOptions>>().toEqualTypeOf<HeartbeatSettings>()
