import createError, { type FastifyErrorConstructor } from '@fastify/error'

export const InvalidTopicError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_INVALID_TOPIC' }, [string]> =
  createError(
    'FST_UPGRADE_INVALID_TOPIC',
    'A topic must be a string of 1 to 1024 bytes in UTF-8, but it is %s.',
    undefined,
    TypeError
  )

export const PresenceTooLongError: FastifyErrorConstructor<
  { code: 'FST_UPGRADE_PRESENCE_TOO_LONG' },
  [number]
> = createError(
  'FST_UPGRADE_PRESENCE_TOO_LONG',
  'A member of a topic has %s bytes of JSON; it is told again and again, so give it at most 65536, such as an id and a name.',
  undefined,
  RangeError
)

/** What was published has not left this process; its own subscribers have it. The cause says why. */
export const BrokerPublishError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_BROKER_PUBLISH' }, [string]> =
  createError(
    'FST_UPGRADE_BROKER_PUBLISH',
    'The broker did not take a message, so subscribers of other processes miss it: %s; see that its engine can be reached.'
  )

export const BrokerOverloadedError: FastifyErrorConstructor<
  { code: 'FST_UPGRADE_BROKER_OVERLOADED' },
  [number]
> = createError(
  'FST_UPGRADE_BROKER_OVERLOADED',
  'More than %s bytes wait for the broker, so subscribers of other processes miss a message; publish less, or see why its engine is slow.'
)

export const BrokerSubscribeError: FastifyErrorConstructor<
  { code: 'FST_UPGRADE_BROKER_SUBSCRIBE' },
  [string]
> = createError(
  'FST_UPGRADE_BROKER_SUBSCRIBE',
  'The broker did not take a subscription, so messages of other processes do not arrive: %s; it is tried again.'
)

export const BrokerInUseError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_BROKER_IN_USE' }> = createError(
  'FST_UPGRADE_BROKER_IN_USE',
  'The broker belongs to another server; make one for each, and they may share a client.',
  undefined,
  TypeError
)

export const ClosedBrokerError: FastifyErrorConstructor<{ code: 'FST_UPGRADE_BROKER_CLOSED' }> = createError(
  'FST_UPGRADE_BROKER_CLOSED',
  'The server is closed, so nothing is published to other processes.'
)

export const InvalidBrokerOptionError: FastifyErrorConstructor<
  { code: 'FST_UPGRADE_INVALID_BROKER_OPTION' },
  [string, string]
> = createError('FST_UPGRADE_INVALID_BROKER_OPTION', 'The %s of a broker must be %s.', undefined, TypeError)
