import { createServer, IncomingMessage, type Server } from 'node:http'
import { Socket } from 'node:net'
import t from 'tap'
import {
  claimUpgrades,
  controlUpgrades,
  isClaimed,
  isTaken,
  TAKEN,
  takeUpgrade
} from '../../lib/upgrade/upgrade-events.js'

const decide = (): boolean => false

/** The properties of a server that an application or another package may see. */
function stateOf(server: Server): unknown[] {
  return [Object.hasOwn(server, 'emit'), server.emit, Reflect.get(server, 'shouldUpgradeCallback')]
}

t.test('the server is restored when its last user has released it', t => {
  for (const own of [{}, { emit: (..._args: unknown[]) => true }]) {
    const server = Object.assign(createServer(), { shouldUpgradeCallback: decide }, own)
    const before = stateOf(server)
    const releases = [controlUpgrades(server), controlUpgrades(server)]
    const during = stateOf(server)
    t.equal(server.shouldUpgradeCallback(), true, 'Node emits every upgrade')
    t.strictNotSame(during, before)
    releases[0]()
    t.strictSame(stateOf(server), during, 'another user still needs it')
    releases[1]()
    t.strictSame(stateOf(server), before)
    controlUpgrades(server)()
    t.strictSame(stateOf(server), before, 'again')
  }
  t.end()
})

t.test('a server of a Node without shouldUpgradeCallback gets none', t => {
  const server = createServer()
  Reflect.deleteProperty(server, 'shouldUpgradeCallback')
  const release = controlUpgrades(server)
  const sockets: unknown[] = []
  server.on('upgrade', (_request, socket) => void sockets.push(socket))
  const socket = new Socket()
  t.ok(server.emit('upgrade', new IncomingMessage(socket), socket, Buffer.alloc(0)))
  t.strictSame(sockets, [socket], 'Node emits every upgrade by itself')
  t.notOk('shouldUpgradeCallback' in server)
  release()
  t.notOk('shouldUpgradeCallback' in server)
  t.end()
})

t.test('wrappers that another package has added since then stay and keep working', t => {
  const server: Server & { shouldUpgradeCallback?: unknown } = createServer()
  server.shouldUpgradeCallback = decide
  const release = controlUpgrades(server)
  const { emit } = server
  const wrapped = { emit: emit.bind(server), shouldUpgradeCallback: () => false }
  Object.assign(server, wrapped)
  release()
  t.equal(server.emit, wrapped.emit)
  t.equal(server.shouldUpgradeCallback, wrapped.shouldUpgradeCallback)
  const seen: unknown[] = []
  server.on('upgrade', () => {
    seen.push(1)
    return TAKEN
  })
  server.on('upgrade', () => seen.push(2))
  server.emit('upgrade', {} as IncomingMessage, new Socket(), Buffer.alloc(0))
  t.strictSame(seen, [1, 2], 'a listener no longer stops the event for the others')
  t.end()
})

t.test('an upgrade is taken once by this package, or by a listener that reads its socket', t => {
  const socket = new Socket()
  t.equal(isTaken(socket), false)
  t.equal(takeUpgrade(socket), true)
  t.equal(isTaken(socket), true)
  t.equal(takeUpgrade(socket), false)
  for (const event of ['data', 'readable'] as const) {
    const read = new Socket()
    read.on(event, () => {})
    t.equal(isTaken(read), true, event)
    t.equal(takeUpgrade(read), true, `${event}: a listener may read it and then call handleUpgrade`)
  }
  t.end()
})

t.test('a server reports claimed paths until the claim is released', t => {
  const server = createServer()
  const request = new IncomingMessage(new Socket())
  t.equal(isClaimed(server, request), false)
  const release = claimUpgrades(server, ({ url }) => url === '/mine')
  t.equal(isClaimed(server, request), false)
  request.url = '/mine'
  t.equal(isClaimed(server, request), true)
  t.equal(isClaimed(createServer(), request), false)
  release()
  t.equal(isClaimed(server, request), false)
  t.end()
})
