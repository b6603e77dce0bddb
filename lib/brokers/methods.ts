/** Whether a value has all these methods. */
export function hasMethods(value: unknown, names: readonly string[]): boolean {
  return names.every(name => typeof Reflect.get(Object(value), name) === 'function')
}
