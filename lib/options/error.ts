import { inspect } from 'node:util'
import createError, { type FastifyError, type FastifyErrorConstructor } from '@fastify/error'

export const UnknownOptionError: FastifyErrorConstructor<
  { code: 'FST_UPGRADE_UNKNOWN_OPTION' },
  [string, string, string]
> = createError(
  'FST_UPGRADE_UNKNOWN_OPTION',
  'There is no option "%s".%s The options are %s.',
  undefined,
  TypeError
)

export const InvalidOptionError: FastifyErrorConstructor<
  { code: 'FST_UPGRADE_INVALID_OPTION' },
  [string, string, string]
> = createError(
  'FST_UPGRADE_INVALID_OPTION',
  'The option "%s" must be %s, but it is %s.',
  undefined,
  TypeError
)

export function invalidOption(name: string, expected: string, value: unknown): FastifyError {
  return new InvalidOptionError(name, expected, inspect(value, { depth: 1 }))
}
