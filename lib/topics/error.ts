import { defineError } from '../error.js'

// The errors of topics, presence and the link to the broker. docs/reference/errors.md describes each.

export const InvalidTopicError = defineError(
  'INVALID_TOPIC',
  'A topic must be a string of 1 to 1024 bytes in UTF-8, but this one %s.',
  { base: TypeError }
)
/** Also thrown for an invalid result of the option `user`: it refuses the handshake. */
export const InvalidIdError = defineError(
  'INVALID_ID',
  'The id of a %s must be a string of 1 to 256 bytes in UTF-8, but this one %s.',
  { base: TypeError, status: 500 }
)
export const PresenceTooLongError = defineError(
  'PRESENCE_TOO_LONG',
  'A presence member has %s bytes as JSON, and the limit is 65536; presence data is re-sent at every interval, so store only an id or a name.',
  { base: RangeError }
)
/** Subscribers in this process have received the message. The cause is the broker's error. */
export const BrokerPublishError = defineError(
  'BROKER_PUBLISH',
  'The broker did not accept a message, so subscribers in other processes miss it: %s; check that its engine can be reached.'
)
export const BrokerOverloadedError = defineError(
  'BROKER_OVERLOADED',
  'More than %s bytes are pending at the broker, so subscribers in other processes miss a message; publish less, or find out why its engine is slow.'
)
export const BrokerSubscribeError = defineError(
  'BROKER_SUBSCRIBE',
  'The broker did not accept a subscription, so messages from other processes do not arrive: %s; the server retries it.'
)
export const BrokerInUseError = defineError(
  'BROKER_IN_USE',
  'The broker belongs to another server; create one broker for each server. They may share a client.',
  { base: TypeError }
)
export const BrokerLinkClosedError = defineError(
  'BROKER_CLOSED',
  'The server is closed, so nothing is published to other processes.'
)
export const BrokerReadError = defineError(
  'BROKER_READ',
  'The broker could not read the history of a topic: %s; check that its engine can be reached and allows it.'
)
export const BrokerWithoutHistoryError = defineError(
  'BROKER_WITHOUT_HISTORY',
  'The option "history" needs a broker that keeps histories, and this one lacks the methods append, read and remove; use the broker of fastify-upgrade/redis, or natsBroker with its own option "history", or remove "history".',
  { base: TypeError }
)
export const NoHistoryError = defineError(
  'NO_HISTORY',
  'The topic "%s" has no history, so %s is not possible; return its limits from the option "history".',
  { base: TypeError }
)
export const InvalidHistoryError = defineError('INVALID_HISTORY', '%s must be %s.', { base: TypeError })
