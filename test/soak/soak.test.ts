import t from 'tap'
import { ms } from '../helpers/timeout.js'
import { member, numberOf, type Outcome, run } from './command.js'

/** On slow machines a run has to be longer. */
const seconds = (n: number): string => String(ms(n * 1000) / 1000)

/** The failed checks of a run. */
function broken({ result }: Outcome): string[] {
  return Object.entries(Object(member(result, 'checks')))
    .filter(([, check]) => member(check, 'ok') !== true)
    .map(([name]) => name)
    .sort()
}

t.test(
  'in a soak of 200 clients the records of clients and server agree, and nothing is left of the clients',
  async t => {
    const outcome = await run(t, 'soak.js', [
      ...['--seconds', seconds(5), '--connections', '200', '--seed', '33'],
      ...['--pace', '0.2', '--interval', '0.25']
    ])
    const { result } = outcome
    t.strictSame(member(result, 'problems'), [])
    t.strictSame(broken(outcome), [], outcome.stderr)
    t.equal(outcome.exitCode, 0)
    t.ok(numberOf(result, 'totals', 'closed') >= 200)
    t.ok(numberOf(result, 'totals', 'received') > 1000)
    t.ok(numberOf(result, 'totals', 'pushed') > 100)
    for (const ending of [
      'close',
      'close at once',
      'half-close',
      'reset',
      'leave',
      'violation',
      'error',
      'closed'
    ]) {
      t.ok(numberOf(result, 'counts', 'endings', ending) > 0, ending)
    }
    for (const status of ['400', '401', '403', '404', '405', '426']) {
      t.ok(numberOf(result, 'counts', 'statuses', status) > 0, status)
    }
    t.ok(numberOf(result, 'tally', 'joined') > 100)
    for (const name of ['connections', 'subscriptions', 'members']) {
      t.equal(numberOf(result, 'handles', 'rest', name), 0, name)
    }
    t.match(outcome.stdout, /\n +\d+\.\d .*\n +\d+\.\d /, 'rows of a table')
  }
)

t.test('the soak detects the faults of a broken server', async t => {
  const outcome = await run(t, 'soak.js', [
    ...['--seconds', seconds(5), '--connections', '100', '--seed', '35'],
    ...['--pace', '0.1', '--interval', '0.25', '--patience', seconds(20)],
    ...['--faults', 'drop,repeat,swap,code,leak,timer,uncaught,log']
  ])
  t.strictSame(broken(outcome), ['accidents', 'closes', 'handles', 'log', 'memory', 'messages'])
  const problems = String(member(outcome.result, 'problems'))
  for (const problem of [
    /lost: (the echoes|\d echoes)/,
    /repeated: \d echoes/,
    /reordered: \d echoes/,
    /with 4999/
  ]) {
    t.match(problems, problem)
  }
  t.equal(outcome.exitCode, 1)
  t.match(outcome.stderr, /^soak: broken: messages, closes, memory, handles, accidents, log$/m)
})

t.test('a soak without activity fails', async t => {
  const outcome = await run(t, 'soak.js', ['--seconds', '1', '--connections', '1', '--interval', '0.2'])
  t.ok(broken(outcome).includes('work'))
  t.equal(outcome.exitCode, 1)
})

t.test('the error for a wrong option names it', async t => {
  for (const [args, message] of [
    [['--minutes', 'ten'], '--minutes has to be a number above 0'],
    [['--faults', 'none'], '--faults knows drop, '],
    [['--connections', '1e9'], '--connections: no more than'],
    [['--build', '/nowhere'], 'there is no build in /nowhere']
  ] as const) {
    const { exitCode, stderr } = await run(t, 'soak.js', args)
    t.equal(exitCode, 1)
    t.ok(stderr.startsWith(`soak: ${message}`), stderr)
  }
})
