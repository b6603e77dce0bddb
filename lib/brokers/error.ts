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
