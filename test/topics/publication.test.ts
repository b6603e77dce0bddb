import t from 'tap'
import { decodePublication, encodePublication } from '../../lib/topics/publication.js'

const ORIGIN = '000102030405060708090a0b0c0d0e0f'

t.test('a publication is decoded as it was encoded', async t => {
  for (const [payload, isBinary] of [
    ['žluťoučký kůň', false],
    ['', false],
    [Buffer.from([0, 255, 128]), true],
    [Buffer.alloc(0), true]
  ] as const) {
    for (const compress of [true, false]) {
      const encoded = encodePublication(ORIGIN, { payload, isBinary, compress })
      t.strictSame(decodePublication(encoded), {
        origin: ORIGIN,
        sender: 0,
        payload: Buffer.from(payload),
        isBinary,
        compress
      })
      // Clients may pass a view of a larger buffer.
      const view = new Uint8Array(Buffer.concat([Buffer.from('xx'), encoded])).subarray(2)
      t.strictSame(decodePublication(view)?.payload, Buffer.from(payload))
    }
  }
})

t.test('a publication may name the connection that sent it', async t => {
  const publication = { payload: 'text', isBinary: false, compress: true }
  for (const sender of [1, 2 ** 32 - 1]) {
    const encoded = encodePublication(ORIGIN, publication, sender)
    t.match(decodePublication(encoded), { sender, origin: ORIGIN, payload: Buffer.from('text') })
    const binary = encodePublication(
      ORIGIN,
      { ...publication, payload: Buffer.from('x'), isBinary: true },
      sender
    )
    t.match(decodePublication(binary), { sender, payload: Buffer.from('x') })
    for (const length of [18, 20, 21]) t.equal(decodePublication(encoded.subarray(0, length)), undefined)
  }
})

t.test('the encoded bytes stay readable for other versions of the package', async t => {
  const text = encodePublication(ORIGIN, { payload: 'a', isBinary: false, compress: true })
  t.equal(text.toString('hex'), `0102${ORIGIN}61`)
  const bytes = encodePublication(ORIGIN, { payload: Buffer.from('a'), isBinary: true, compress: false })
  t.equal(bytes.toString('hex'), `0101${ORIGIN}61`)
})

t.test('bytes that are no publication, and text that is not UTF-8, are not decoded', async t => {
  const good = encodePublication(ORIGIN, { payload: 'text', isBinary: false, compress: true })
  t.ok(decodePublication(good))
  for (let length = 0; length < 18; length++) t.equal(decodePublication(good.subarray(0, length)), undefined)
  for (const version of [0, 2, 255]) {
    t.equal(decodePublication(Buffer.concat([Buffer.from([version]), good.subarray(1)])), undefined)
  }
  const payload = Buffer.from([0xc3, 0x28])
  const invalid = encodePublication(ORIGIN, { payload, isBinary: false, compress: true })
  t.equal(decodePublication(invalid), undefined)
  t.ok(decodePublication(encodePublication(ORIGIN, { payload, isBinary: true, compress: true })))
})
