import createError from '@fastify/error'

// The errors of brokers. docs/errors.md describes each.

export const InvalidBrokerOptionError = createError<[option: string, expected: string]>(
  'FST_UPGRADE_INVALID_BROKER_OPTION',
  'The %s of a broker must be %s.',
  undefined,
  TypeError
)
export const ClosedBrokerError = createError<[]>(
  'FST_UPGRADE_BROKER_CLOSED',
  'The broker is closed, so nothing is published to other processes.'
)
