import { EventEmitter } from 'node:events'

const CHANGES_LISTENERS = [
  'on',
  'addListener',
  'prependListener',
  'off',
  'removeListener',
  'removeAllListeners'
]

/**
 * Has `onChange` told of emitters with this prototype whose listeners were added or removed. `once` and
 * `prependOnceListener` come through these methods too.
 */
export function tellListenerChanges<Emitter extends EventEmitter>(
  prototype: Emitter,
  onChange: (emitter: Emitter) => void
): void {
  for (const method of CHANGES_LISTENERS) {
    const inherited: unknown = Reflect.get(EventEmitter.prototype, method)
    Object.defineProperty(prototype, method, {
      configurable: true,
      writable: true,
      value(this: Emitter, ...args: unknown[]) {
        Reflect.apply(inherited as () => void, this, args)
        onChange(this)
        return this
      }
    })
  }
}
