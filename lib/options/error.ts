import { inspect } from 'node:util'
import type { FastifyError } from '@fastify/error'
import { defineError } from '../error.js'

export const UnknownOptionError = defineError(
  'UNKNOWN_OPTION',
  'There is no option "%s".%s The options are %s.',
  { base: TypeError }
)
export const InvalidOptionError = defineError('INVALID_OPTION', 'The option "%s" must be %s, but it is %s.', {
  base: TypeError
})

export function invalidOption(name: string, expected: string, value: unknown): FastifyError {
  return new InvalidOptionError(name, expected, inspect(value, { depth: 1 }))
}
