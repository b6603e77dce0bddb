import fc from 'fast-check'
import t from 'tap'
import { checkPair, PAIR_CASE } from './pair.js'
import { tryProperty } from './run.js'
import { checkSend, SEND_CASE } from './send.js'

t.test('RFC 6455 section 5.2: everything that is sent, in any order, is on the wire as frames', async t => {
  await tryProperty(t, 'send', fc.property(SEND_CASE, checkSend), 1000)
})

t.test('RFC 6455 sections 5 to 7: a client and a server receive everything that the other sends', async t => {
  await tryProperty(t, 'pair', fc.property(PAIR_CASE, checkPair), 1000)
})
