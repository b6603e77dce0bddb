import { defineError } from '../error.js'

// The errors of the console. docs/reference/errors.md describes each.

export const UnguardedConsoleError = defineError(
  'UNGUARDED_CONSOLE',
  'The console shows addresses and user ids and closes connections, so it needs a hook that checks who may use it; set "onRequest", or "unprotected: true" if only operators can reach the server.'
)
