import type { AppendOptions, Position } from './broker.js'

/** A message that waits for its position. */
export interface PendingAppend {
  readonly message: Uint8Array
  readonly options: AppendOptions
  resolve(position: Position): void
  reject(error: unknown): void
}

/**
 * Takes messages from the front that can be appended together: they have the same limits, and fit. A message with an id is
 * appended alone, as engines know the id of a whole append.
 */
export function takeBatch(pending: PendingAppend[], maxMessages: number, maxBytes: number): PendingAppend[] {
  const [{ options }] = pending
  let count = 0
  let bytes = 0
  for (const { message, options: others } of pending) {
    bytes += message.length
    const isSame = others.size === options.size && others.ttl === options.ttl && others.id === undefined
    const fits = count < maxMessages && count < options.size && bytes <= maxBytes
    if (count > 0 && !(isSame && fits)) break
    count++
    if (options.id !== undefined) break
  }
  return pending.splice(0, count)
}
