// The values of `readyState`.

export const CONNECTING = 0
export const OPEN = 1
export const CLOSING = 2
export const CLOSED = 3

/** Gives a class and its prototype the values by name, read-only as in a browser and in `ws`. */
export function defineReadyStates(type: { readonly prototype: object }): void {
  for (const target of [type, type.prototype]) {
    for (const [name, value] of Object.entries({ CONNECTING, OPEN, CLOSING, CLOSED }))
      Object.defineProperty(target, name, { value, enumerable: true })
  }
}
