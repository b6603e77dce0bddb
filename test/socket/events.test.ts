import t from 'tap'
import { isThenable } from '../../lib/socket/events.js'

const withThen = (value: unknown): unknown => Object.fromEntries([['then', value]])

t.test('every thenable counts as a promise, whichever library made it', t => {
  for (const value of [Promise.resolve(), withThen(() => {}), Object.create(Promise.prototype)]) {
    t.ok(isThenable(value))
  }
  for (const value of [
    undefined,
    null,
    0,
    '',
    'then',
    {},
    withThen(1),
    withThen(null),
    () => {},
    [],
    Symbol()
  ]) {
    t.notOk(isThenable(value))
  }
  t.end()
})
