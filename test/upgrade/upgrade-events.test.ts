import { createServer, type IncomingMessage, type Server } from 'node:http'
import { Socket } from 'node:net'
import t from 'tap'
import { controlUpgrades, TAKEN } from '../../lib/upgrade/upgrade-events.js'

const decide = (): boolean => false

/** What an application or another package may see of a server. */
function stateOf(server: Server): unknown[] {
  return [Object.hasOwn(server, 'emit'), server.emit, Reflect.get(server, 'shouldUpgradeCallback')]
}

t.test('the server is as before when the last user has ended it', t => {
  for (const own of [{}, { emit: (..._args: unknown[]) => true }]) {
    const server = Object.assign(createServer(), { shouldUpgradeCallback: decide }, own)
    const before = stateOf(server)
    const releases = [controlUpgrades(server), controlUpgrades(server)]
    const during = stateOf(server)
    t.equal(server.shouldUpgradeCallback(), true, 'Node emits all')
    t.strictNotSame(during, before)
    releases[0]()
    t.strictSame(stateOf(server), during, 'another needs it')
    releases[1]()
    t.strictSame(stateOf(server), before)
    controlUpgrades(server)()
    t.strictSame(stateOf(server), before, 'again')
  }
  t.end()
})

t.test('what another package has wrapped since stays, and goes on', t => {
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
  t.strictSame(seen, [1, 2], 'a listener keeps nothing from others any more')
  t.end()
})
