import fc from 'fast-check'
import t from 'tap'
import type { Situation } from './model.js'
import { checkReceive, ReceiveCase } from './receive.js'
import { fixtures, tryProperty } from './run.js'
import { receiveCases } from './wires.js'

for (const [file, content] of fixtures('receive')) {
  t.test(`${file} is received as in the model`, async t => {
    await checkReceive(ReceiveCase.from(content))
    t.pass()
  })
}

const WAYS: readonly (readonly [string, fc.Arbitrary<Situation['deflate']>])[] = [
  ['receive', fc.constant('none')],
  ['inflate', fc.constantFrom('each', 'takeover')]
]

for (const [name, deflate] of WAYS) {
  t.test('RFC 6455 sections 5 to 8: any bytes, in any pieces, are received as in the model', async t => {
    await tryProperty(t, name, fc.asyncProperty(receiveCases(deflate), checkReceive), 150)
  })
}
