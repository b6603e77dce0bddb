import t from 'tap'
import { openEnvelope, sealEnvelope } from '../../lib/topics/envelope.js'

const ORIGIN = '000102030405060708090a0b0c0d0e0f'

t.test('what is sealed is opened as it was', async t => {
  for (const [payload, isBinary] of [
    ['žluťoučký kůň', false],
    ['', false],
    [Buffer.from([0, 255, 128]), true],
    [Buffer.alloc(0), true]
  ] as const) {
    for (const compress of [true, false]) {
      const sealed = sealEnvelope(ORIGIN, payload, isBinary, compress)
      t.strictSame(openEnvelope(sealed), {
        origin: ORIGIN,
        payload: Buffer.from(payload),
        isBinary,
        compress
      })
      // Clients give views, too.
      const view = new Uint8Array(Buffer.concat([Buffer.from('xx'), sealed])).subarray(2)
      t.strictSame(openEnvelope(view)?.payload, Buffer.from(payload))
    }
  }
})

t.test('the bytes are those that other versions will read', async t => {
  t.equal(sealEnvelope(ORIGIN, 'a', false, true).toString('hex'), `0102${ORIGIN}61`)
  t.equal(sealEnvelope(ORIGIN, Buffer.from('a'), true, false).toString('hex'), `0101${ORIGIN}61`)
})

t.test('what this package has not written is not opened', async t => {
  const good = sealEnvelope(ORIGIN, 'text', false, true)
  t.ok(openEnvelope(good))
  for (let length = 0; length < 18; length++) t.equal(openEnvelope(good.subarray(0, length)), undefined)
  for (const version of [0, 2, 255]) {
    t.equal(openEnvelope(Buffer.concat([Buffer.from([version]), good.subarray(1)])), undefined)
  }
  t.equal(openEnvelope(sealEnvelope(ORIGIN, Buffer.from([0xc3, 0x28]), false, true)), undefined, 'no UTF-8')
})
