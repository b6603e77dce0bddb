import { join } from 'node:path'
import t, { type Test } from 'tap'
import { root } from '../helpers/root.js'
import { member, numberOf, run } from './command.js'

t.test('the load test holds 500 connections, and each gets its answers', async t => {
  const { exitCode, stdout, stderr, result } = await run(t, 'load.js', [
    ...['--connections', '500', '--seconds', '2', '--every', '0.5']
  ])
  t.equal(stderr, '')
  t.equal(exitCode, 0)
  t.equal(member(result, 'connections'), 500)
  t.equal(member(result, 'messages', 'answered'), 500)
  t.ok(numberOf(result, 'messages', 'sent') >= 1000)
  const p50 = numberOf(result, 'latencyMs', 'p50')
  t.ok(p50 > 0)
  t.ok(numberOf(result, 'latencyMs', 'p99') >= p50)
  t.ok(numberOf(result, 'latencyMs', 'max') >= numberOf(result, 'latencyMs', 'p99'))
  t.ok(numberOf(result, 'handshakes', 'perSecond') > 0)
  t.match(stdout, /^connections held +500$/m)
})

/** A build whose echo sends one of the messages several times. */
function brokenBuild(t: Test, times: number): string {
  const real = JSON.stringify(join(root, 'dist', 'lib', 'index.js'))
  const folder = t.testdir({
    'package.json': '{ "type": "module" }',
    dist: {
      lib: {
        'index.js': `
          import upgrade from ${real}
          let count = 0
          async function broken(app, options) {
            await app.register(upgrade, options)
            app.websocketServer.on('connection', socket => {
              const send = socket.send.bind(socket)
              socket.send = (...args) => {
                const times = ++count === 100 ? ${times} : 1
                for (let i = 0; i < times; i++) send(...args)
              }
            })
          }
          broken[Symbol.for('skip-override')] = true
          export default broken`
      }
    }
  })
  return folder
}

t.test('a missing or duplicate echo fails the load test', async t => {
  for (const [times, message] of [
    [0, /^load: 1 messages had no answer within 1 s$/m],
    [2, /^load: \d messages came at once, and one at most was asked for/m]
  ] as const) {
    const { exitCode, stderr } = await run(t, 'load.js', [
      ...['--connections', '50', '--seconds', '2', '--every', '0.5', '--patience', '1'],
      ...['--build', brokenBuild(t, times)]
    ])
    t.match(stderr, message)
    t.equal(exitCode, 1)
  }
})
