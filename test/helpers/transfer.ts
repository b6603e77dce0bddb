/**
 * Gives buffers the method `transfer`, which Node 20 does not have, or takes it away.
 * @returns a function that returns the bytes that were freed with it.
 */
export function setTransfer(t: { teardown(fn: () => void): unknown }, isThere: boolean): () => number {
  const found = Object.getOwnPropertyDescriptor(ArrayBuffer.prototype, 'transfer')
  let freed = 0
  const value = function (this: ArrayBuffer): void {
    freed += this.byteLength
    structuredClone(this, { transfer: [this] })
  }
  Object.defineProperty(ArrayBuffer.prototype, 'transfer', {
    value: isThere ? value : undefined,
    configurable: true
  })
  t.teardown(() => {
    if (found) Object.defineProperty(ArrayBuffer.prototype, 'transfer', found)
    else Reflect.deleteProperty(ArrayBuffer.prototype, 'transfer')
  })
  return () => freed
}
