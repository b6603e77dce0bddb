import { randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import t, { type Test } from 'tap'
import { WebSocketServer as WsServer, WebSocket as WsWebSocket } from 'ws'
import { PerMessageDeflate } from '../../lib/compression/per-message-deflate.js'
import { checkResponse, handshakeRequest } from '../../lib/protocol/handshake/client-handshake.js'
import { WebSocket } from '../../lib/socket/websocket.js'
import { listen, makeApp, RawClient, Signal, withDeadline } from '../helpers/app.js'
import { randomNumbers } from '../protocol/wire.js'
import { answers, End, exchange, expected, pingsOf } from './deflate-conversation.js'
import { Dice, lettersOf, type Setting, settingOf } from './deflate-letters.js'

// Random messages with random parameters, in both directions. TEST_SEED=<seed> repeats a failure.

const SEED = Number(process.env.TEST_SEED || randomInt(2 ** 31))
const SETTINGS = 60
const LETTERS = 88
const AT_ONCE = 6
const MIB = 2 ** 20

/** Two ends of a connection; the first one begins. */
type Ends = readonly [sender: End, echoer: End]

interface Role {
  readonly ours: 'client' | 'server'
  /** Opens the connection for a setting, by its index. */
  open(index: number): Promise<Ends>
}

let exchanged = 0

async function playAll(t: Test, role: Role, settings: readonly Setting[]): Promise<void> {
  const indexes = settings.keys()
  const work = async (): Promise<void> => {
    for (const index of indexes) {
      const setting = settings[index]
      await play(t, role, index).catch(error =>
        t.fail(`seed ${SEED}, setting ${index}: ${error}`, { setting, error })
      )
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work))
}

function diceFor(role: Role['ours'], index: number): Dice {
  return new Dice(randomNumbers(SEED + index * 2 + (role === 'server' ? 0 : 1)))
}

async function play(t: Test, role: Role, index: number): Promise<void> {
  const dice = diceFor(role.ours, index)
  settingOf(dice, role.ours)
  const letters = lettersOf(dice, LETTERS)
  const name = `seed ${SEED}, setting ${index}`
  const [sender, echoer] = await role.open(index)
  t.match(sender.socket.extensions, /^permessage-deflate/, `${name}: negotiated`)
  t.match(echoer.socket.extensions, /^permessage-deflate/, `${name}: negotiated at the other end`)
  echoer.echo(letters)
  await exchange(sender, letters, () => dice.int(1, 30))
  t.strictSame(echoer.events, expected(letters, 'there'), `${name}: messages at the other end`)
  t.strictSame(sender.events, expected(letters, 'back'), `${name}: messages that came back`)
  for (const [end, way, isOurs] of [
    [sender, 'there', role.ours === 'client'],
    [echoer, 'back', role.ours === 'server']
  ] as const) {
    const pings = pingsOf(letters, way)
    await end.until(() => end.pongs.at(-1) === pings.at(-1), `the pong of ${pings.at(-1)}`)
    if (isOurs) t.strictSame(end.pongs, pings, `${name}: every ping is answered by ws`)
    else t.ok(answers(end.pongs, pings), `${name}: pongs of pings ${way}`, { pongs: end.pongs, pings })
  }
  sender.socket.close(1000)
  for (const end of [sender, echoer]) await end.until(() => end.closed !== undefined, 'close', true)
  t.strictSame([sender.closed, echoer.closed], ['1000', '1000'], `${name}: closed`)
  exchanged += letters.length
}

function settingsOf(role: Role['ours']): Setting[] {
  return Array.from({ length: SETTINGS }, (_, index) => settingOf(diceFor(role, index), role))
}

t.test(`a client of ws and a server behind Fastify exchange messages, seed ${SEED}`, async t => {
  const settings = settingsOf('server')
  const { app } = await makeApp(t, { maxPayload: 2 * MIB, maxBufferedAmount: 512 * MIB, origin: '*' })
  const opened = settings.map(() => new Signal<End>())
  for (const [index, { ours }] of settings.entries()) {
    const { level, memLevel, strategy, ...perMessageDeflate } = ours
    const zlibDeflateOptions = { level, memLevel, strategy }
    app.get(
      `/${index}`,
      { websocket: { perMessageDeflate: { ...perMessageDeflate, zlibDeflateOptions } } },
      socket => opened[index]?.fire(new End(socket))
    )
  }
  const port = await listen(app)
  const open = async (index: number): Promise<Ends> => {
    const perMessageDeflate = settings[index]?.theirs ?? false
    const socket = new WsWebSocket(`ws://127.0.0.1:${port}/${index}`, { perMessageDeflate })
    t.teardown(() => socket.terminate())
    const sender = new End(socket)
    const echoer = await opened[index]?.wait('open')
    if (echoer === undefined) throw new Error('no connection')
    if (socket.readyState !== WsWebSocket.OPEN) await withDeadline(once(socket, 'open'), 10_000, 'open')
    return [sender, echoer]
  }
  await playAll(t, { ours: 'server', open }, settings)
})

t.test(`a client of this package and a server of ws exchange messages, seed ${SEED}`, async t => {
  const settings = settingsOf('client')
  const server = createServer()
  const opened = settings.map(() => new Signal<End>())
  server.on('upgrade', (request, stream, head) => {
    const index = Number(request.url?.slice(1))
    const perMessageDeflate = settings[index]?.theirs ?? false
    new WsServer({ noServer: true, perMessageDeflate }).handleUpgrade(request, stream, head, socket =>
      opened[index]?.fire(new End(socket))
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const open = async (index: number): Promise<Ends> => {
    const ours = settings[index]?.ours
    if (ours === undefined) throw new Error('no setting')
    const sender = new End(await openOurs(t, port, index, ours))
    const echoer = await opened[index]?.wait('open')
    if (echoer === undefined) throw new Error('no connection')
    return [sender, echoer]
  }
  await playAll(t, { ours: 'client', open }, settings)
})

/** A WebSocket of this package in the role of a client. */
async function openOurs(t: Test, port: number, index: number, deflate: Setting['ours']): Promise<WebSocket> {
  const stream = connect({ port, host: '127.0.0.1', noDelay: true })
  const asked = {
    host: `127.0.0.1:${port}`,
    path: `/${index}`,
    key: randomBytes(16).toString('base64'),
    deflate
  }
  const client = new RawClient(t, stream)
  stream.write(handshakeRequest(asked))
  const { status: statusCode, headers } = await client.head()
  stream.pause()
  stream.removeAllListeners('data').removeAllListeners('end')
  if (client.data.length > 0) stream.unshift(client.data)
  const flat = Object.fromEntries([...headers].map(([name, values]) => [name, values.join(', ')]))
  const checked = checkResponse({ statusCode, headers: flat }, asked)
  if ('failure' in checked) throw new Error(checked.failure)
  const { protocol, deflate: parameters } = checked
  if (parameters === undefined) throw new Error('permessage-deflate was declined')
  return new WebSocket(stream, {
    role: 'client',
    protocol,
    extension: new PerMessageDeflate('client', parameters, deflate),
    maskingKey: () => randomBytes(4).readUInt32LE(),
    settings: {
      maxPayload: 2 * MIB,
      closeTimeout: 10_000,
      heartbeat: false,
      highWaterMark: 65_536,
      maxBufferedAmount: 512 * MIB
    },
    owner: {
      onError: (_socket, error) => t.fail(`seed ${SEED}: ${error}`),
      onPeerError: error => t.fail(`seed ${SEED}: ${error}`),
      onClose: () => {}
    }
  })
}

t.test('at least ten thousand', async t => {
  t.ok(exchanged >= 10_000, `${exchanged} messages were sent and came back, seed ${SEED}`)
})
