import { createServer, IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import t from 'tap'
import { claimUpgrades, isClaimed, isTaken, takeUpgrade } from '../../lib/upgrade/upgrade-owner.js'

t.test('a socket is taken once, or by who reads it', t => {
  const socket = new Socket()
  t.equal(isTaken(socket), false)
  t.equal(takeUpgrade(socket), true)
  t.equal(isTaken(socket), true)
  t.equal(takeUpgrade(socket), false)
  for (const event of ['data', 'readable'] as const) {
    const read = new Socket()
    read.on(event, () => {})
    t.equal(isTaken(read), true, event)
    t.equal(takeUpgrade(read), true, `${event}: whoever hands it over may read it`)
  }
  t.end()
})

t.test('the paths of a server are claimed by whoever says so', t => {
  const server = createServer()
  const request = new IncomingMessage(new Socket())
  t.equal(isClaimed(server, request), false)
  claimUpgrades(server, ({ url }) => url === '/mine')
  t.equal(isClaimed(server, request), false)
  request.url = '/mine'
  t.equal(isClaimed(server, request), true)
  t.equal(isClaimed(createServer(), request), false)
  t.end()
})
