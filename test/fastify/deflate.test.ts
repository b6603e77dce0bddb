import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import type { PerMessageDeflateOptions } from '../../lib/index.js'
import { headerOf, listen, makeApp, open, shake, text } from '../helpers/app.js'
import { hex } from '../protocol/wire.js'
import {
  BROWSER,
  compressedFrame,
  compressedFrames,
  deflated,
  inflated,
  nextClose,
  nextFrame,
  openRaw,
  TAKEOVER,
  Window
} from './deflate-client.js'

type Option = boolean | PerMessageDeflateOptions | undefined

/** A server whose route sends the negotiated extensions, and echoes. */
async function serve(t: Test, perMessageDeflate: Option): Promise<number> {
  const { app } = await makeApp(t, { perMessageDeflate })
  app.get('/', { websocket: true }, socket => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
  })
  app.get('/extensions', { websocket: true }, socket => socket.send(JSON.stringify(socket.extensions)))
  return listen(app)
}

/** The parameters of an answer, in alphabetical order; undefined without the header. */
async function answerTo(t: Test, port: number, offer: string | undefined): Promise<string | undefined> {
  const response = await shake(t, port, '/', { 'Sec-WebSocket-Extensions': offer })
  t.equal(response.status, 101, `101 to ${offer}`)
  const [name, ...parameters] = headerOf(response, 'sec-websocket-extensions')?.split('; ') ?? []
  if (name === undefined) return undefined
  t.equal(name, 'permessage-deflate')
  return parameters.sort().join('; ')
}

const BOTH = 'client_no_context_takeover; server_no_context_takeover'

const NEGOTIATIONS: readonly (readonly [Option, offer: string | undefined, answer: string | undefined])[] = [
  [undefined, BROWSER, undefined],
  [false, BROWSER, undefined],
  [true, undefined, undefined],
  [true, BROWSER, BOTH],
  [{}, 'permessage-deflate', BOTH],
  [true, 'permessage-deflate; server_no_context_takeover; client_no_context_takeover', BOTH],
  [TAKEOVER, BROWSER, ''],
  [TAKEOVER, 'permessage-deflate; server_no_context_takeover', 'server_no_context_takeover'],
  [TAKEOVER, 'permessage-deflate;client_no_context_takeover', 'client_no_context_takeover'],
  [{ serverNoContextTakeover: false }, BROWSER, 'client_no_context_takeover'],
  [{ clientNoContextTakeover: false }, BROWSER, 'server_no_context_takeover'],
  // RFC 7692 section 7.1.2.1
  [TAKEOVER, 'permessage-deflate; server_max_window_bits=10', 'server_max_window_bits=10'],
  [TAKEOVER, 'permessage-deflate; server_max_window_bits="10"', 'server_max_window_bits=10'],
  [TAKEOVER, 'permessage-deflate; server_max_window_bits=15', 'server_max_window_bits=15'],
  [{ ...TAKEOVER, serverMaxWindowBits: 10 }, 'permessage-deflate', 'server_max_window_bits=10'],
  [
    { ...TAKEOVER, serverMaxWindowBits: 10 },
    'permessage-deflate; server_max_window_bits=12',
    'server_max_window_bits=10'
  ],
  [
    { ...TAKEOVER, serverMaxWindowBits: 10 },
    'permessage-deflate; server_max_window_bits=9',
    'server_max_window_bits=9'
  ],
  // Section 7.1.2.2: only in the answer to a client that offers it.
  [{ ...TAKEOVER, clientMaxWindowBits: 10 }, 'permessage-deflate', ''],
  [{ ...TAKEOVER, clientMaxWindowBits: 10 }, BROWSER, 'client_max_window_bits=10'],
  [
    { ...TAKEOVER, clientMaxWindowBits: 10 },
    'permessage-deflate; client_max_window_bits=12',
    'client_max_window_bits=10'
  ],
  [
    { ...TAKEOVER, clientMaxWindowBits: 10 },
    'permessage-deflate; client_max_window_bits=8',
    'client_max_window_bits=8'
  ],
  // Section 7.1: in order of preference; an unacceptable offer is declined on its own.
  [
    TAKEOVER,
    'permessage-deflate; server_max_window_bits=12, permessage-deflate; server_max_window_bits=9',
    'server_max_window_bits=12'
  ],
  [TAKEOVER, 'x-other, permessage-deflate; server_max_window_bits=9', 'server_max_window_bits=9'],
  [
    TAKEOVER,
    'permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9',
    'server_max_window_bits=9'
  ],
  [
    TAKEOVER,
    'permessage-deflate; server_max_window_bits=8\r\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9',
    'server_max_window_bits=9'
  ],
  ...[
    'x-other',
    'permessage-deflate; unknown',
    'permessage-deflate; server_max_window_bits=8',
    'permessage-deflate; server_max_window_bits',
    'permessage-deflate; server_max_window_bits=7',
    'permessage-deflate; server_max_window_bits=16',
    'permessage-deflate; server_max_window_bits=09',
    'permessage-deflate; client_max_window_bits=16',
    'permessage-deflate; client_max_window_bits=1e1',
    'permessage-deflate; server_no_context_takeover=1',
    'permessage-deflate; client_no_context_takeover; client_no_context_takeover',
    'permessage-deflate; a\r\nSec-WebSocket-Extensions: permessage-deflate; b'
  ].map(offer => [true, offer, undefined] as const)
]

t.test('RFC 7692 section 7.1: each offer gets the documented answer', async t => {
  for (const [option, offer, answer] of NEGOTIATIONS) {
    t.equal(await answerTo(t, await serve(t, option), offer), answer, `${JSON.stringify(option)}: ${offer}`)
  }
})

t.test('socket.extensions contains the negotiated extension', async t => {
  const port = await serve(t, true)
  const { client } = await openRaw(t, port, '/extensions')
  t.equal(String((await nextFrame(client)).payload), '"permessage-deflate"')
  const plain = await openRaw(t, port, '/extensions', 'x-other')
  t.equal(String((await nextFrame(plain.client)).payload), '""')
})

t.test('a route uses its own settings, otherwise those of the plugin, under either name', async t => {
  const { app } = await makeApp(t, { options: { perMessageDeflate: { serverMaxWindowBits: 10 } } })
  app.get('/', { websocket: true }, () => {})
  app.get('/off', { websocket: { perMessageDeflate: false } }, () => {})
  app.get('/own', { websocket: { perMessageDeflate: { serverMaxWindowBits: 12 } } }, () => {})
  app.get('/true', { websocket: { perMessageDeflate: true } }, () => {})
  const { app: other } = await makeApp(t, {
    perMessageDeflate: false,
    options: { perMessageDeflate: true }
  })
  other.get('/', { websocket: true }, () => {})
  other.get('/on', { websocket: { perMessageDeflate: true } }, () => {})
  const ports = [await listen(app), await listen(other)] as const
  const ask = async (port: number, path: string): Promise<string | undefined> => {
    const response = await shake(t, port, path, { 'Sec-WebSocket-Extensions': BROWSER })
    t.equal(response.status, 101)
    const answer = headerOf(response, 'sec-websocket-extensions')
    return answer && (/server_max_window_bits=\d+/.exec(answer)?.[0] ?? 'on')
  }
  t.equal(await ask(ports[0], '/'), 'server_max_window_bits=10')
  t.equal(await ask(ports[0], '/off'), undefined)
  t.equal(await ask(ports[0], '/own'), 'server_max_window_bits=12')
  t.equal(await ask(ports[0], '/true'), 'on', 'true means the defaults')
  t.equal(await ask(ports[1], '/'), undefined, "the plugin's name takes precedence")
  t.equal(await ask(ports[1], '/on'), 'on')
})

t.test('a malformed header is refused, whether compression is enabled or not', async t => {
  for (const option of [true, false]) {
    const offer = 'permessage-deflate; ='
    const { status } = await shake(t, await serve(t, option), '/', { 'Sec-WebSocket-Extensions': offer })
    t.equal(status, 400)
  }
})

t.test('a message is compressed according to threshold, compress and its compressed size', async t => {
  const { app } = await makeApp(t, { perMessageDeflate: true })
  const random = randomBytes(2000)
  const messages: readonly (readonly [string | Buffer, boolean | undefined, compressed: boolean])[] = [
    ['x'.repeat(1023), undefined, false],
    ['x'.repeat(1024), undefined, true],
    ['é'.repeat(512), undefined, true],
    ['x'.repeat(100_000), true, true],
    ['x'.repeat(100_000), false, false],
    ['x'.repeat(1024), false, false],
    [random, true, false]
  ]
  app.get('/', { websocket: true }, socket => {
    for (const [data, compress] of messages) socket.send(data, { compress })
  })
  app.get('/low', { websocket: { perMessageDeflate: { threshold: 10 } } }, socket => {
    socket.send('x'.repeat(9))
    socket.send('x'.repeat(10))
  })
  app.get('/takeover', { websocket: { perMessageDeflate: TAKEOVER } }, socket => {
    socket.send('x')
    socket.send('x', { compress: false })
    socket.send(random)
  })
  const port = await listen(app)
  const { client } = await openRaw(t, port, '/')
  for (const [data, compress, isCompressed] of messages) {
    const { rsv, fin, payload } = await nextFrame(client)
    const name = `${data.length} units, compress ${compress}`
    t.strictSame({ rsv, fin }, { rsv: isCompressed ? 4 : 0, fin: true }, name)
    t.ok((isCompressed ? inflated(payload) : payload).equals(Buffer.from(data)), name)
    if (isCompressed) t.ok(payload.length < data.length / 10, `${payload.length} bytes`)
  }
  const low = await openRaw(t, port, '/low')
  t.strictSame([(await nextFrame(low.client)).rsv, (await nextFrame(low.client)).rsv], [0, 4])
  const plain = await openRaw(t, port, '/low', 'x-other')
  t.strictSame([(await nextFrame(plain.client)).rsv, (await nextFrame(plain.client)).rsv], [0, 0])
  const takeover = await openRaw(t, port, '/takeover')
  const rsvs = [await nextFrame(takeover.client), await nextFrame(takeover.client)].map(({ rsv }) => rsv)
  t.strictSame(rsvs, [4, 0], 'small messages are compressed when they may refer to others')
  t.equal((await nextFrame(takeover.client)).rsv, 4, 'the window of the peer needs the message')
})

t.test('with takeover a message refers to earlier ones, and without it to none', async t => {
  const port = await serve(t, TAKEOVER)
  const data = randomBytes(900).toString('base64')
  const sizes = async (offer: string): Promise<number[]> => {
    const { client } = await openRaw(t, port, '/', offer)
    client.write(text(data), text(data))
    const frames = [await nextFrame(client), await nextFrame(client)]
    const window = new Window()
    for (const { rsv, payload } of frames) {
      t.equal(rsv, 4)
      const isAlone = offer.includes('server_no_context_takeover')
      t.equal(String(isAlone ? inflated(payload) : window.inflated(payload)), data)
    }
    return frames.map(({ payload }) => payload.length)
  }
  const [first = 0, second = 0] = await sizes('permessage-deflate')
  t.ok(second < 30, `${second} bytes instead of ${first}`)
  const [one = 0, other = 0] = await sizes('permessage-deflate; server_no_context_takeover')
  t.equal(one, other)
  t.ok(one > 800, `${one} bytes`)
})

t.test('RFC 7692 section 7.1.2.1: no message of the server needs a larger window than agreed', async t => {
  // The data repeats at a distance that only a window of more than 512 bytes spans.
  const data = randomBytes(3000).toString('latin1').repeat(20)
  const bytes = Buffer.from(data, 'latin1')
  t.throws(() => inflated(deflated(bytes), 9), 'the data suits this test')
  for (const option of [true, TAKEOVER, { threshold: 0, serverMaxWindowBits: 9 }]) {
    const { app } = await makeApp(t, { perMessageDeflate: option })
    app.get('/', { websocket: true }, socket => {
      socket.send(bytes.subarray(0, 12_000))
      socket.send(bytes)
      socket.send('')
    })
    const { client } = await openRaw(
      t,
      await listen(app),
      '/',
      'permessage-deflate; server_max_window_bits=9'
    )
    const small = await nextFrame(client)
    const large = await nextFrame(client)
    // Random bytes do not compress within such a window, so they may be sent uncompressed.
    if (small.rsv === 4) t.ok(inflated(small.payload, 9).equals(bytes.subarray(0, 12_000)))
    else t.ok(small.payload.equals(bytes.subarray(0, 12_000)))
    t.equal(large.rsv, 4)
    t.ok(inflated(large.payload, 9).equals(bytes))
  }
})

/** RFC 7692 section 7.2.3. */
const HELLOS: Readonly<Record<string, string>> = {
  'one compressed DEFLATE block (7.2.3.1)': 'f2 48 cd c9 c9 07 00',
  'a block without compression (7.2.3.3)': '00 05 00 fa ff 48 65 6c 6c 6f 00',
  'a block with BFINAL (7.2.3.4)': 'f3 48 cd c9 c9 07 00 00',
  'two blocks (7.2.3.5)': 'f2 48 05 00 00 00 ff ff ca c9 c9 07 00'
}

for (const [name, wire] of Object.entries(HELLOS)) {
  for (const option of [true, TAKEOVER]) {
    t.test(`Hello is inflated from ${name}, ${option === true ? 'without' : 'with'} takeover`, async t => {
      const { client } = await openRaw(t, await serve(t, option), '/')
      const payload = hex(wire)
      client.write(compressedFrame(payload), ...compressedFrames(payload, 3))
      client.write(compressedFrame(hex('00')), compressedFrame(payload, 2))
      const received: string[] = []
      const window = new Window()
      for (let i = 0; i < 4; i++) {
        const { opcode, rsv, payload } = await nextFrame(client)
        received.push(`${opcode} ${rsv === 4 ? window.inflated(payload) : payload}`)
      }
      t.strictSame(received, ['1 Hello', '1 Hello', '1 ', '2 Hello'])
    })
  }
}

t.test('RFC 7692 section 7.2.3.2: a message may refer to the previous one', async t => {
  const { app } = await makeApp(t, { perMessageDeflate: { clientNoContextTakeover: false } })
  app.get('/', { websocket: true }, socket => {
    socket.on('message', data => socket.send(`got ${data}`))
  })
  const { client } = await openRaw(t, await listen(app), '/')
  client.write(compressedFrame(hex('f2 48 cd c9 c9 07 00')), compressedFrame(hex('f2 00 11 00 00')))
  t.equal(String((await nextFrame(client)).payload), 'got Hello')
  t.equal(String((await nextFrame(client)).payload), 'got Hello')
})

t.test('without takeover no message refers to earlier ones of any connection', async t => {
  const { app } = await makeApp(t, { perMessageDeflate: true })
  app.get('/', { websocket: true }, socket => {
    socket.on('message', data => socket.send(`got ${data}`))
  })
  const port = await listen(app)
  const { client } = await openRaw(t, port, '/')
  const hello = compressedFrame(hex('f2 48 cd c9 c9 07 00'))
  client.write(hello)
  t.equal(String((await nextFrame(client)).payload), 'got Hello')
  const other = await openRaw(t, port, '/')
  // RFC 7692 section 7.2.3.2: the previous five bytes.
  other.client.write(compressedFrame(hex('f2 00 11 00 00')))
  t.match(await nextClose(other.client), /^1007/)
  client.write(hello, compressedFrame(hex('f2 00 11 00 00')))
  t.equal(String((await nextFrame(client)).payload), 'got Hello')
  t.match(await nextClose(client), /^1007/)
})

t.test('a client that does not offer compression is served without it', async t => {
  const client = await open(t, await serve(t, true), '/', { headers: {} })
  client.socket.send('x'.repeat(5000))
  t.equal(await client.next(), 'x'.repeat(5000))
})
