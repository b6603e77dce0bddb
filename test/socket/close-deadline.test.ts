import t from 'tap'
import { deadlinesAfter } from '../../lib/limits/deadline.js'
import { CloseDeadline, type Closing } from '../../lib/socket/close-deadline.js'
import { ms, withDeadline } from '../helpers/timeout.js'

t.test('a connection that ends during a look at the kernel sets no deadline and is not cut', async t => {
  const timeout = ms(20) + 0.375
  let cuts = 0
  const asked = new Promise<void>(resolve => {
    const closing: Closing = {
      connection: { gaps: 0 },
      writer: {
        bytes: 1e6,
        unsent: 0,
        taken: 1e6,
        acknowledged: () => {
          deadline.stop()
          resolve()
          return Promise.resolve(undefined)
        }
      },
      readByPeer: 0,
      isEnded: false,
      terminate: () => cuts++
    }
    const deadline = new CloseDeadline(closing, timeout)
  })
  await withDeadline(asked, 5000, 'look')
  await new Promise(resolve => setImmediate(resolve))
  t.equal(deadlinesAfter(timeout).size, 0)
  t.equal(cuts, 0)
})

t.test('once the closing handshake is over, a peer gets one timeout more', async t => {
  const timeout = ms(20) + 0.4375
  let looks = 0
  await withDeadline(
    new Promise<void>(resolve => {
      const acknowledged = (): undefined => void looks++
      const writer = { bytes: 1e6, unsent: 0, taken: 1e6, acknowledged }
      new CloseDeadline(
        { connection: { gaps: 0 }, isEnded: true, writer, readByPeer: 0, terminate: () => resolve() },
        timeout
      )
    }),
    5000,
    'cut'
  )
  t.equal(looks, 2)
  t.equal(deadlinesAfter(timeout).size, 0)
})
