import { defineError } from '../error.js'

// The errors of brokers. docs/reference/errors.md describes each.

export const InvalidBrokerOptionError = defineError(
  'INVALID_BROKER_OPTION',
  'The %s of a broker must be %s.',
  { base: TypeError }
)
export const ClosedBrokerError = defineError(
  'BROKER_CLOSED',
  'The broker is closed, so nothing is published to other processes.'
)
export const HistoryFullError = defineError(
  'HISTORY_FULL',
  'A message of %s bytes does not fit in the history of a topic, which may have %s bytes; publish a reference to large data, or raise "maxChannelBytes" of the MemoryHub.',
  { base: RangeError }
)
export const JetStreamUnavailableError = defineError(
  'JETSTREAM_UNAVAILABLE',
  'NATS cannot keep histories in the stream "%s": %s; start nats-server with "-js" or with "jetstream" in its configuration, and allow the account and the user to use JetStream.'
)
export const InvalidStreamError = defineError(
  'INVALID_STREAM',
  'The JetStream stream "%s" cannot keep histories, because its "%s" must be %s; change it, or delete it and let the broker create it.'
)
export const UnknownRecordError = defineError(
  'UNKNOWN_RECORD',
  'The JetStream stream has a message that no broker of this package wrote; let no other client publish to its subjects, and remove the message.'
)
