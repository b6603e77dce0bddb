import { InvalidTopicError } from '../brokers/error.js'

/** Bytes of UTF-8 that the name of a topic may have. */
const MAX_TOPIC_LENGTH = 1024

/** @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC` */
export function checkTopic(topic: unknown): asserts topic is string {
  if (typeof topic !== 'string') throw new InvalidTopicError(`of type ${typeof topic}`)
  const length = Buffer.byteLength(topic)
  if (length === 0 || length > MAX_TOPIC_LENGTH) throw new InvalidTopicError(`one of ${length} bytes`)
  // UTF-8 has no half of a surrogate pair: to other processes it would be another topic.
  if (/\p{Surrogate}/u.test(topic)) throw new InvalidTopicError('one that is no Unicode')
}
