import t from 'tap'
import { deadlinesAfter } from '../../lib/limits/deadline.js'
import { RateLimiter, TokenBucket } from '../../lib/limits/rate-limiter.js'

t.test(
  'a bucket allows a burst of one second, the last take may overdraw it, and it refills with time',
  async t => {
    const bucket = new TokenBucket(10, 1000)
    for (let i = 0; i < 10; i++) t.equal(bucket.take(1, 1000), true)
    t.equal(bucket.take(1, 1000), false, 'an eleventh')
    t.equal(bucket.wait(1000), 200, 'until there is one whole token')
    t.equal(bucket.wait(1200), 0)
    t.equal(bucket.take(1, 1200), true)
    t.equal(bucket.take(25, 2200), true, 'one take may be larger than the bucket')
    t.equal(bucket.wait(2200), 1600)
    t.equal(bucket.take(1, 3600), false)
    for (let i = 0; i < 10; i++)
      t.equal(bucket.take(1, 1e9), true, 'after a long time the bucket holds the tokens of one second')
    t.equal(bucket.take(1, 1e9), false)
  }
)

t.test(
  'a pause waits for one deadline, also when data arrives during it, and for none after stop',
  async t => {
    const throttled: boolean[] = []
    const limiter = new RateLimiter(
      { messages: undefined, bytes: 1, policy: 'pause' },
      () => t.fail('the policy is to pause'),
      isThrottled => throttled.push(isThrottled)
    )
    // The longest pause is one second.
    const deadlines = deadlinesAfter(1000)
    t.equal(limiter.onBytes(1000), true)
    t.equal(deadlines.size, 1)
    t.equal(limiter.onBytes(1000), true)
    t.equal(deadlines.size, 1)
    limiter.stop()
    t.equal(deadlines.size, 0)
    t.strictSame(throttled, [true, true])
  }
)
