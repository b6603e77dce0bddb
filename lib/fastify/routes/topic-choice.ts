import type { FastifyRequest } from 'fastify'
import { isThenable } from '../../socket/events.js'
import { checkTopic } from '../../topics/topics.js'
import { InvalidTopicListError } from '../error.js'
import type { WebSocketRoute } from './route.js'

/**
 * Chooses the topics that a connection is subscribed to before its handler runs.
 * @throws {TypeError} `FST_UPGRADE_INVALID_TOPIC` or `FST_UPGRADE_INVALID_TOPIC_LIST`
 */
export function chooseTopics(
  { topics: choose }: WebSocketRoute,
  request: FastifyRequest
): readonly string[] | undefined | Promise<readonly string[]> {
  if (choose === undefined) return undefined
  const topics = choose(request)
  return isThenable(topics) ? Promise.resolve(topics).then(check) : check(topics)
}

function check(topics: readonly string[]): readonly string[] {
  if (!Array.isArray(topics)) throw new InvalidTopicListError(typeof topics)
  topics.forEach(checkTopic)
  return topics
}
