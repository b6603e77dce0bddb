import { defineError } from '../error.js'

// The errors of the console. docs/reference/errors.md describes each.

export const UnguardedConsoleError = defineError(
  'UNGUARDED_CONSOLE',
  'The console shows addresses and users and closes connections, so it needs a hook that checks who may use it; give it "onRequest", or write "unprotected: true" where nobody else can reach it.'
)
