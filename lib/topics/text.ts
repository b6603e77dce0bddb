/**
 * Checks a name that processes exchange.
 * @returns what is wrong with it, as the end of a sentence; undefined for a string of 1 to `maxSize` bytes in UTF-8.
 */
export function problemOf(name: unknown, maxSize: number): string | undefined {
  if (typeof name !== 'string') return `is of type ${typeof name}`
  const size = Buffer.byteLength(name)
  if (size === 0 || size > maxSize) return `has ${size} bytes`
  // UTF-8 cannot encode half of a surrogate pair: other processes would see another name.
  return /\p{Surrogate}/u.test(name) ? 'contains half of a surrogate pair' : undefined
}
