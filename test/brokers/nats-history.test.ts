import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'
import { jetstreamManager, type JetStreamManager as Manager, RetentionPolicy } from '@nats-io/jetstream'
import t, { type Test } from 'tap'
import { type JetStreamManager, type NatsConnection, natsBroker } from '../../lib/brokers/nats/nats.js'
import { decodeRecord, encodeRecord } from '../../lib/brokers/nats/record.js'
import type { HistoryBroker, Position } from '../../lib/index.js'
import { bareApp, watchProcess } from '../helpers/app.js'
import { type JetStream, natsSkip, startJetStream, startNats } from '../helpers/engine.js'
import { ms, withDeadline } from '../helpers/timeout.js'
import { jetStreamBroker, natsConnection } from './clients.js'
import { record } from './recorder.js'

// The history in JetStream: its stream, its records, and the accidents of both.

const HELLO = Buffer.from('hello')
const LIMITS = { size: 100, ttl: 600_000 }
const STREAM = 'fastify-upgrade'
const SUBJECT = `fastify-upgrade.history.${Buffer.from('h:x').toString('base64url')}`

async function texts(broker: HistoryBroker, limit = 100): Promise<string[]> {
  const { messages } = await broker.read('h:x', { limit })
  return messages.map(({ offset, message }) => `${offset} ${Buffer.from(message)}`)
}

async function appendAll(broker: HistoryBroker, words: string): Promise<Position> {
  let position: Position = { offset: 0, epoch: '' }
  for (const word of words) position = await broker.append('h:x', Buffer.from(word), LIMITS)
  return position
}

/** A manager for the test itself. */
async function admin(t: Test, { engine }: JetStream): Promise<Manager> {
  return await jetstreamManager(await natsConnection(t, engine))
}

async function storedCount(manager: Manager): Promise<number> {
  return (await manager.streams.info(STREAM)).state.messages
}

// ---- restarts

t.test('a restart with a file store keeps the epoch, and offsets continue', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const broker = await jetStreamBroker(t, engine)
  const events = record(t, broker)
  const before = await appendAll(broker, 'abc')
  const known = await broker.append('h:x', HELLO, { ...LIMITS, id: '1' })
  await engine.kill()
  await events.until('up', 'down')
  await t.rejects(broker.read('h:x', { limit: 1 }))
  await engine.start()
  await events.until('up', 'down', 'up')
  t.strictSame(await texts(broker), ['1 a', '2 b', '3 c', '4 hello'])
  t.strictSame(await broker.append('h:x', HELLO, { ...LIMITS, id: '1' }), known, 'the id is still known')
  t.strictSame(await broker.append('h:x', HELLO, LIMITS), { ...before, offset: 5 })
})

t.test('a lost store begins a new epoch', { skip: natsSkip }, async t => {
  const { engine, store } = await startJetStream(t)
  const broker = await jetStreamBroker(t, engine)
  const events = record(t, broker)
  const before = await broker.append('h:x', HELLO, { ...LIMITS, id: '1' })
  await engine.kill()
  await rm(store, { recursive: true })
  await engine.start()
  await events.until('up', 'down', 'up')
  const { messages, position } = await broker.read('h:x', { limit: 10 })
  t.strictSame(messages, [])
  t.equal(position.offset, 0)
  t.not(position.epoch, before.epoch)
  const next = await broker.append('h:x', HELLO, { ...LIMITS, id: '1' })
  t.strictSame(next, { ...position, offset: 1 }, 'the id is not known any more')
})

t.test('a memory store begins a new epoch when NATS restarts', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const broker = await jetStreamBroker(t, engine, { history: { storage: 'memory' } })
  const events = record(t, broker)
  const before = await appendAll(broker, 'abc')
  await engine.kill()
  await engine.start()
  await events.until('up', 'down', 'up')
  const after = await broker.append('h:x', HELLO, LIMITS)
  t.equal(after.offset, 1)
  t.not(after.epoch, before.epoch)
})

t.test('a lost epoch does not come back', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const history = { storage: 'memory' } as const
  const brokers = await Promise.all([1, 2].map(() => jetStreamBroker(t, engine, { history })))
  const [broker, other] = brokers
  const events = brokers.map(one => record(t, one))
  const { epoch } = await broker.append('h:x', HELLO, LIMITS)
  await engine.kill()
  await engine.start()
  await Promise.all(events.map(one => one.until('up', 'down', 'up')))
  // Its record gets the number of the one that is lost.
  const first = await other.append('h:x', HELLO, LIMITS)
  t.not(first.epoch, epoch)
  t.strictSame(await broker.append('h:x', HELLO, LIMITS), { ...first, offset: 2 })
})

t.test(
  'a stream that is deleted, or a subject that is purged, begins a new epoch',
  { skip: natsSkip },
  async t => {
    const engine = await startJetStream(t)
    const manager = await admin(t, engine)
    const broker = await jetStreamBroker(t, engine.engine)
    const events = record(t, broker)
    const epochs = new Set<string>()
    const accidents = [
      () => manager.streams.delete(STREAM),
      () => manager.streams.purge(STREAM, { filter: SUBJECT }),
      () => manager.streams.delete(STREAM)
    ]
    for (const accident of accidents) {
      const first = await broker.append('h:x', HELLO, { ...LIMITS, id: '1' })
      t.equal(first.offset, 1)
      t.equal((await appendAll(broker, 'ab')).offset, 3)
      epochs.add(first.epoch)
      await accident()
    }
    t.equal((await broker.read('h:x', { limit: 0 })).position.offset, 0)
    t.equal((await manager.streams.info(STREAM)).config.num_replicas, 1, 'the broker created it again')
    t.equal(epochs.size, accidents.length)
    t.strictSame(events.states, ['up'])
  }
)

// ---- the stream

t.test('without JetStream the broker is down, and says what to do', { skip: natsSkip }, async t => {
  const engine = await startNats(t)
  const connection = await natsConnection(t, engine)
  await t.rejects(jetstreamManager(connection), /not enabled/, 'the client says so, too')
  const broker = await jetStreamBroker(t, engine)
  const events = record(t, broker)
  await events.until('down')
  t.match(events.errors, [{ code: 'FST_UPGRADE_JETSTREAM_UNAVAILABLE', message: /not enabled.*"-js"/ }])
  await t.rejects(broker.append('h:x', HELLO, LIMITS), { code: 'FST_UPGRADE_JETSTREAM_UNAVAILABLE' })
  await t.rejects(broker.read('h:x', { limit: 1 }), { code: 'FST_UPGRADE_JETSTREAM_UNAVAILABLE' })
})

t.test(
  'a connection that does not say the max_payload is used as one with 1 MiB',
  { skip: natsSkip },
  async t => {
    const { engine } = await startJetStream(t)
    const connection = await natsConnection(t, engine)
    const manager = await jetstreamManager(connection)
    const own: NatsConnection = {
      publish: (subject, payload) => connection.publish(subject, payload),
      subscribe: (subject, options) => connection.subscribe(subject, options),
      flush: () => connection.flush(),
      status: () => connection.status()
    }
    const broker = natsBroker(own, { history: { manager } })
    record(t, broker)
    t.equal((await broker.append('h:x', HELLO, LIMITS)).offset, 1)
    t.strictSame(await texts(broker), ['1 hello'])
  }
)

t.test('the broker is connected once JetStream is', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const connection = await natsConnection(t, engine)
  const manager = await jetstreamManager(connection)
  let attempts = 0
  const info: JetStreamManager['streams']['info'] = stream => {
    if (attempts++ < 2) throw Object.assign(new Error('no leader'), { code: 10008 })
    return manager.streams.info(stream)
  }
  const broker = natsBroker(connection, { history: { manager: withStreams(manager, { info }) } })
  const events = record(t, broker)
  await events.until('down', 'up')
  t.match(events.errors, [{ message: /no leader/ }])
  t.equal((await broker.append('h:x', HELLO, LIMITS)).offset, 1)
})

t.test('a closed broker does not look for its stream again', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const connection = await natsConnection(t, engine)
  const manager = await jetstreamManager(connection)
  let attempts = 0
  let reject: (error: unknown) => void = () => {}
  const info: JetStreamManager['streams']['info'] = () => {
    attempts++
    return new Promise((_resolve, refuse) => {
      reject = refuse
    })
  }
  const broker = natsBroker(connection, { history: { manager: withStreams(manager, { info }) } })
  const events = record(t, broker)
  while (attempts === 0) await sleep(1)
  const pending = broker.append('h:x', HELLO, LIMITS)
  await broker.close()
  await t.rejects(pending, { code: 'FST_UPGRADE_BROKER_CLOSED' })
  reject('no error object')
  await sleep(300)
  t.equal(attempts, 1)
  t.strictSame(events.states, [])
})

t.test('a stream that exists is used', { skip: natsSkip }, async t => {
  const engine = await startJetStream(t)
  const manager = await admin(t, engine)
  const republish = { src: 'app.history.*', dest: 'app.{{wildcard(1)}}' }
  await manager.streams.add({
    name: 'own',
    subjects: ['app.history.*', 'other'],
    republish,
    max_bytes: 2 ** 20,
    duplicate_window: 300e9
  })
  const options = { prefix: 'app.', history: { stream: 'own' } }
  const broker = await jetStreamBroker(t, engine.engine, options)
  const events = record(t, broker)
  await broker.subscribe('h:x')
  t.equal((await broker.append('h:x', HELLO, LIMITS)).offset, 1)
  t.equal(await events.next(), 'h:x hello')
  t.equal((await manager.streams.info('own')).config.max_bytes, 2 ** 20, 'it is left as it is')
})

t.test('a stream that cannot keep histories is refused, with the reason', { skip: natsSkip }, async t => {
  const engine = await startJetStream(t)
  const manager = await admin(t, engine)
  const [src, dest] = ['app.history.*', 'app.{{wildcard(1)}}']
  const right = { subjects: [src], republish: { src, dest }, duplicate_window: 300e9 }
  const wrong = {
    retention: { ...right, retention: RetentionPolicy.Interest },
    deny_purge: { ...right, deny_purge: true },
    subjects: { subjects: ['other'] },
    republish: { subjects: [src] },
    'republish to': { ...right, republish: { src, dest: 'b.{{wildcard(1)}}' } },
    duplicate_window: { ...right, duplicate_window: 1e9 }
  }
  for (const [name, config] of Object.entries(wrong)) {
    await manager.streams.add({ name: 'own', ...config })
    const broker = await jetStreamBroker(t, engine.engine, { prefix: 'app.', history: { stream: 'own' } })
    const events = record(t, broker)
    await events.until('down')
    const key = name.split(' ')[0]
    t.match(
      events.errors,
      [{ code: 'FST_UPGRADE_INVALID_STREAM', message: `because its "${key}" must be` }],
      name
    )
    await broker.close()
    await manager.streams.delete('own')
  }
})

t.test('two brokers that start together create one stream', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const make = async (storage: 'file' | 'memory') => {
    const connection = await natsConnection(t, engine)
    const manager = await jetstreamManager(connection)
    // Both find that there is none.
    let isFirst = true
    const info: JetStreamManager['streams']['info'] = stream => {
      const name = isFirst ? 'none' : stream
      isFirst = false
      return manager.streams.info(name)
    }
    return natsBroker(connection, { history: { manager: withStreams(manager, { info }), storage } })
  }
  const brokers = [await make('file'), await make('memory')]
  const events = brokers.map(broker => record(t, broker))
  for (const each of events) await each.until('up')
  const offsets: number[] = []
  for (const broker of brokers) offsets.push((await broker.append('h:x', HELLO, LIMITS)).offset)
  t.strictSame(offsets, [1, 2])
})

t.test('a stream that the account may not create is reported', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const broker = await jetStreamBroker(t, engine, { history: { replicas: 3 } })
  const events = record(t, broker)
  await events.until('down')
  t.match(events.errors, [{ code: 'FST_UPGRADE_JETSTREAM_UNAVAILABLE', message: /replicas > 1/ }])
})

t.test('invalid options are refused', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const connection = await natsConnection(t, engine)
  const manager = await jetstreamManager(connection)
  const refused = { code: 'FST_UPGRADE_INVALID_BROKER_OPTION' }
  const histories = [
    { manager: Promise.resolve(manager) },
    { manager, stream: 'a.b' },
    { manager, stream: '' },
    { manager, stream: 7 },
    { manager, storage: 'disk' },
    { manager, replicas: 0 },
    { manager, replicas: 6 },
    { manager, replicas: 1.5 }
  ]
  for (const history of histories) {
    t.throws(() => Reflect.apply(natsBroker, undefined, [connection, { history }]), refused)
  }
  t.throws(() => natsBroker(connection, { prefix: 'app', history: { manager } }), {
    ...refused,
    message: /prefix of a broker must be whole tokens/
  })
})

t.test('the name of the stream follows the prefix', { skip: natsSkip }, async t => {
  const engine = await startJetStream(t)
  const manager = await admin(t, engine)
  for (const prefix of ['a.b.', '']) {
    const broker = await jetStreamBroker(t, engine.engine, { prefix })
    record(t, broker)
    await broker.append('h:x', HELLO, LIMITS)
    await broker.close()
  }
  const names: string[] = []
  for await (const name of manager.streams.names()) names.push(name)
  t.strictSame(names.sort(), ['a_b', STREAM])
})

t.test('a broker without history is refused for topics with history', { skip: natsSkip }, async t => {
  const engine = await startNats(t)
  const broker = natsBroker(await natsConnection(t, engine))
  const { default: upgrade } = await import('../../lib/index.js')
  const { app } = bareApp(t)
  await t.rejects(async () => await app.register(upgrade, { broker, history: LIMITS }), {
    code: 'FST_UPGRADE_BROKER_WITHOUT_HISTORY'
  })
})

// ---- records

t.test(
  'messages of one turn share a record, and those with an id have their own',
  { skip: natsSkip },
  async t => {
    const engine = await startJetStream(t)
    const manager = await admin(t, engine)
    const broker = await jetStreamBroker(t, engine.engine)
    const events = record(t, broker)
    await broker.subscribe('h:x')
    const appends = ['a', 'b', 'c'].map(text => broker.append('h:x', Buffer.from(text), LIMITS))
    appends.push(broker.append('h:x', Buffer.from('d'), { ...LIMITS, id: 'd' }))
    appends.push(broker.append('h:x', Buffer.from('e'), LIMITS))
    appends.push(broker.append('h:x', Buffer.from('f'), { ...LIMITS, ttl: 1_000_000 }))
    const positions = await Promise.all(appends)
    t.strictSame(
      positions.map(({ offset }) => offset),
      [1, 2, 3, 4, 5, 6]
    )
    for (const text of 'abcdef') t.equal(await events.next(), `h:x ${text}`)
    t.strictSame(events.positions, positions)
    // The first record is that of the empty history, before all others.
    t.equal(await storedCount(manager), 5)
  }
)

t.test(
  'a record has no more messages than the history, and no more bytes than fit',
  { skip: natsSkip },
  async t => {
    const engine = await startJetStream(t)
    const manager = await admin(t, engine)
    const broker = await jetStreamBroker(t, engine.engine)
    record(t, broker)
    const sizes = async (messages: readonly Buffer[], size: number): Promise<number[]> => {
      const { last_seq } = (await manager.streams.info(STREAM)).state
      await Promise.all(messages.map(message => broker.append('h:x', message, { ...LIMITS, size })))
      const counts: number[] = []
      for (let seq = last_seq + 1; ; seq++) {
        const found = await manager.streams.getMessage(STREAM, { seq })
        if (found === null) return counts
        counts.push(decodeRecord(found.data)?.messages.length ?? 0)
      }
    }
    await broker.append('h:x', HELLO, LIMITS)
    t.strictSame(await sizes(Array(5).fill(HELLO), 2), [2, 2, 1])
    t.strictSame(await sizes(Array(300).fill(HELLO), 1000), [256, 44])
    t.strictSame(await sizes(Array(3).fill(Buffer.alloc(30_000)), 1000), [2, 1])
    t.strictSame(await sizes(Array(2).fill(Buffer.alloc(1_500_000)), 1000), [1, 1])
  }
)

t.test('records are decoded as they were encoded, and other bytes are not', async t => {
  const whole = {
    epoch: '0123456789abcdef',
    offset: Number.MAX_SAFE_INTEGER,
    floor: Number.MAX_SAFE_INTEGER - 1,
    ttl: 2 ** 40,
    messages: [Buffer.from('a'), Buffer.alloc(0), Buffer.from('bc')]
  }
  const bytes = encodeRecord(whole)
  t.strictSame(decodeRecord(bytes), whole)
  const empty = { ...whole, messages: [] }
  t.strictSame(decodeRecord(encodeRecord(empty)), empty)
  const wrong = [
    Buffer.alloc(0),
    Buffer.from('{"some":"json, which is long enough to be a record"}'),
    bytes.subarray(0, -1),
    Buffer.concat([bytes, Buffer.of(0, 0)]),
    encodeRecord({ ...whole, offset: 2 }),
    encodeRecord({ ...whole, offset: 2 ** 53 }),
    encodeRecord({ ...whole, offset: Number.NaN }),
    encodeRecord({ ...whole, floor: 0.5 }),
    encodeRecord({ ...whole, ttl: -1 })
  ]
  for (const data of wrong) t.equal(decodeRecord(data), undefined)
})

t.test(
  'a message that no broker wrote is an error, and does not end the process',
  { skip: natsSkip },
  async t => {
    const accidents = watchProcess(t)
    const engine = await startJetStream(t)
    const manager = await admin(t, engine)
    const broker = await jetStreamBroker(t, engine.engine)
    const events = record(t, broker)
    await broker.subscribe('h:x')
    await manager.jetstream().publish(SUBJECT, 'from outside')
    t.equal(await events.next(), 'h:x from outside')
    t.strictSame(events.positions, [undefined], 'the server reports it as invalid')
    await t.rejects(broker.append('h:x', HELLO, LIMITS), { code: 'FST_UPGRADE_UNKNOWN_RECORD' })
    await t.rejects(broker.read('h:x', { limit: 1 }), { code: 'FST_UPGRADE_UNKNOWN_RECORD' })
    await manager.streams.purge(STREAM, { filter: SUBJECT })
    t.equal((await broker.append('h:x', HELLO, LIMITS)).offset, 1)
    t.strictSame(accidents, [])
  }
)

t.test('offsets end at 2^53 - 1 with an error', { skip: natsSkip }, async t => {
  const engine = await startJetStream(t)
  const manager = await admin(t, engine)
  const broker = await jetStreamBroker(t, engine.engine)
  const events = record(t, broker)
  await events.until('up')
  const offset = Number.MAX_SAFE_INTEGER - 1
  const state = { epoch: '0123456789abcdef', offset, floor: offset, ttl: 600_000, messages: [HELLO] }
  await manager.jetstream().publish(SUBJECT, encodeRecord(state))
  const last = await broker.append('h:x', HELLO, LIMITS)
  t.strictSame(last, { epoch: state.epoch, offset: Number.MAX_SAFE_INTEGER })
  await t.rejects(broker.append('h:x', HELLO, LIMITS), /all its offsets/)
  const { messages } = await broker.read('h:x', { since: offset - 1, limit: 5 })
  t.strictSame(
    messages.map(message => message.offset),
    [offset, offset + 1]
  )
})

// ---- what is kept

t.test('records whose messages are gone are purged', { skip: natsSkip }, async t => {
  const engine = await startJetStream(t)
  const manager = await admin(t, engine)
  const broker = await jetStreamBroker(t, engine.engine)
  record(t, broker)
  for (let n = 1; n <= 200; n++) await broker.append('h:x', Buffer.from(String(n)), { ...LIMITS, size: 10 })
  const count = await storedCount(manager)
  t.ok(count <= 10 + 2 * 16 + 1, `${count} records`)
  t.strictSame(
    await texts(broker),
    Array.from({ length: 10 }, (_, i) => `${191 + i} ${191 + i}`)
  )
  // Another process does not know the older records.
  const other = await jetStreamBroker(t, engine.engine)
  record(t, other)
  await other.append('h:x', HELLO, { ...LIMITS, size: 3 })
  const purged = async (): Promise<void> => {
    while ((await storedCount(manager)) > 4) await sleep(5)
  }
  await withDeadline(purged(), 10_000, 'purge')
  t.strictSame(await texts(broker), ['199 199', '200 200', '201 hello'])
})

t.test('the places of a lost stream do not purge the next one', { skip: natsSkip }, async t => {
  const engine = await startJetStream(t)
  const manager = await admin(t, engine)
  const storage = 'memory'
  const broker = await jetStreamBroker(t, engine.engine, { history: { storage } })
  const other = await jetStreamBroker(t, engine.engine, { history: { storage } })
  const events = record(t, broker)
  record(t, other)
  const limits = { ...LIMITS, size: 10 }
  // The next stream will use these numbers again, for other records.
  for (let n = 0; n < 50; n++) await broker.append('h:y', HELLO, limits)
  for (let n = 0; n < 40; n++) await broker.append('h:x', HELLO, limits)
  await broker.subscribe('h:x')
  // The new epoch begins in this process, or in another one whose records this one receives.
  for (const first of [broker, other]) {
    await manager.streams.delete(STREAM)
    const { epoch } = await first.append('h:x', Buffer.from('first'), limits)
    while ((await events.next()) !== 'h:x first');
    for (let n = 2; n <= 70; n++)
      t.strictSame(await broker.append('h:x', Buffer.from(String(n)), limits), { epoch, offset: n })
    t.strictSame(
      await texts(broker),
      Array.from({ length: 10 }, (_, i) => `${61 + i} ${61 + i}`)
    )
    for (let n = 0; n < 50; n++) await broker.append('h:y', HELLO, limits)
  }
})

t.test('expired messages are removed, though nothing reads them', { skip: natsSkip }, async t => {
  const engine = await startJetStream(t)
  const manager = await admin(t, engine)
  const broker = await jetStreamBroker(t, engine.engine, { timeout: ms(100) })
  record(t, broker)
  const last = await broker.append('h:x', Buffer.alloc(1000), { size: 10, ttl: 20 })
  const swept = async (): Promise<void> => {
    while ((await manager.streams.info(STREAM)).state.bytes > 1000) await sleep(10)
  }
  await withDeadline(swept(), 10_000, 'sweep')
  t.strictSame(await broker.read('h:x', { limit: 10 }), { messages: [], position: last })
  t.strictSame(await broker.append('h:x', HELLO, LIMITS), { ...last, offset: 2 })
  t.strictSame(await texts(broker), ['2 hello'])
})

t.test('an append to an expired history does not bring its messages back', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const brokers = [await jetStreamBroker(t, engine), await jetStreamBroker(t, engine)] as const
  for (const broker of brokers) record(t, broker)
  const [first, second] = brokers
  for (const broker of brokers) {
    await first.append('h:x', Buffer.from('old'), { size: 10, ttl: 1 })
    const signal = AbortSignal.timeout(10_000)
    while ((await texts(second)).length > 0) await sleep(5, undefined, { signal })
    const { offset } = await broker.append('h:x', HELLO, LIMITS)
    t.strictSame(await texts(second), [`${offset} hello`])
    await second.remove('h:x')
  }
})

t.test('an id is known though its message is gone; its position is not', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const broker = await jetStreamBroker(t, engine)
  record(t, broker)
  const options = { ...LIMITS, id: '1' }
  const { epoch } = await broker.append('h:x', HELLO, options)
  await broker.append('h:x', HELLO, LIMITS)
  await broker.remove('h:x')
  t.strictSame(await broker.append('h:x', HELLO, options), { offset: 0, epoch })
  t.equal((await broker.append('h:x', HELLO, LIMITS)).offset, 3)
})

t.test('an id may have any characters', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const broker = await jetStreamBroker(t, engine)
  record(t, broker)
  const ids = ['a', ' a', 'a ', 'A', 'a\r\nNats-Rollup: all', 'žluťoučký 🐎', '\0', 'x'.repeat(100)]
  for (let round = 0; round < 2; round++) {
    for (const [i, id] of ids.entries())
      t.equal((await broker.append('h:x', HELLO, { ...LIMITS, id })).offset, i + 1, id)
  }
  t.equal((await texts(broker)).length, ids.length)
})

t.test('a user needs no more rights than the guide says', { skip: natsSkip }, async t => {
  const folder = t.testdir()
  const config = join(folder, 'nats.conf')
  const permissions =
    '{ publish: ["fastify-upgrade.>", "$JS.API.>"], subscribe: ["fastify-upgrade.*", "_INBOX.>"] }'
  await writeFile(
    config,
    `jetstream: { store_dir: ${JSON.stringify(join(folder, 'js'))} }
authorization { users: [{ user: app, password: secret, permissions: ${permissions} }] }`
  )
  const engine = await startNats(t, ['-c', config])
  const connection = await natsConnection(t, engine, { user: 'app', pass: 'secret' })
  const broker = natsBroker(connection, { history: { manager: await jetstreamManager(connection) } })
  const events = record(t, broker)
  await broker.subscribe('h:x')
  await appendAll(broker, 'abc')
  for (const text of 'abc') t.equal(await events.next(), `h:x ${text}`)
  t.strictSame(await texts(broker), ['1 a', '2 b', '3 c'])
  await broker.remove('h:x')
  t.strictSame(await texts(broker), [])
  t.strictSame(events.states, ['up'])
})

// ---- several processes

t.test('no process waits for long while another one appends all the time', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const count = 4
  const brokers: HistoryBroker[] = []
  for (let i = 0; i < count; i++) brokers.push(await jetStreamBroker(t, engine))
  for (const broker of brokers) record(t, broker)
  // None of them is subscribed, so that a process learns the last record only by asking for it.
  const appended = brokers.map(() => 0)
  let isOver = false
  const load = async (broker: HistoryBroker, index: number): Promise<void> => {
    while (!isOver) {
      await broker.append('h:x', HELLO, { ...LIMITS, size: 1000 })
      appended[index]++
      if (appended.every(n => n >= 100)) isOver = true
    }
  }
  const loads = brokers.flatMap((broker, i) => Array.from({ length: 16 }, () => load(broker, i)))
  await withDeadline(Promise.all(loads), 30_000, 'a hundred messages of each process')
  const total = appended.reduce((sum, n) => sum + n, 0)
  t.comment(`appended ${appended}`)
  const { position, messages } = await brokers[0].read('h:x', { limit: 10_000 })
  t.equal(position.offset, total)
  t.strictSame(
    messages.map(({ offset }) => offset),
    Array.from({ length: Math.min(total, 1000) }, (_, i) => total - Math.min(total, 1000) + i + 1)
  )
})

t.test('messages of several processes keep the order of each', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const brokers = [await jetStreamBroker(t, engine), await jetStreamBroker(t, engine)]
  const events = brokers.map(broker => record(t, broker))
  for (const broker of brokers) await broker.subscribe('h:x')
  const size = 1000
  const sent = brokers.flatMap((broker, b) =>
    Array.from({ length: 300 }, (_, i) => {
      const id = i % 50 === 0 ? { id: `${b} ${i}` } : {}
      return broker.append('h:x', Buffer.from(`${b} ${i}`), { ...LIMITS, ...id, size })
    })
  )
  await Promise.all(sent)
  const arrived: string[] = []
  while (arrived.length < 600) arrived.push(await events[0].next())
  for (const b of [0, 1]) {
    const own = arrived.filter(text => text.startsWith(`h:x ${b} `))
    t.strictSame(
      own,
      Array.from({ length: 300 }, (_, i) => `h:x ${b} ${i}`)
    )
  }
  t.strictSame(
    events[0].positions.map(position => position?.offset),
    Array.from({ length: 600 }, (_, i) => i + 1)
  )
})

t.test(
  'remove gives way to appends of other processes, and removes them, too',
  { skip: natsSkip },
  async t => {
    const { engine } = await startJetStream(t)
    const other = await jetStreamBroker(t, engine)
    record(t, other)
    const connection = await natsConnection(t, engine)
    const manager = await jetstreamManager(connection)
    let interferes = true
    const getMessage: JetStreamManager['streams']['getMessage'] = async (stream, query) => {
      const found = await manager.streams.getMessage(stream, query)
      if (interferes && found !== null) {
        interferes = false
        await other.append('h:x', HELLO, LIMITS)
      }
      return found
    }
    const broker = natsBroker(connection, { history: { manager: withStreams(manager, { getMessage }) } })
    record(t, broker)
    await appendAll(other, 'ab')
    await broker.remove('h:x')
    const { messages, position } = await other.read('h:x', { limit: 10 })
    t.strictSame(messages, [])
    t.equal(position.offset, 3)
  }
)

t.test('an append ends with an error when other processes are always faster', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const connection = await natsConnection(t, engine)
  const manager = await jetstreamManager(connection)
  const client = manager.jetstream()
  const publish = async (subject: string, data: Uint8Array, options?: object) => {
    if (subject === SUBJECT && data.length > 100) throw Object.assign(new Error('wrong'), { code: 10071 })
    return await client.publish(subject, data, options)
  }
  const wrapped: JetStreamManager = {
    streams: manager.streams,
    consumers: manager.consumers,
    jetstream: () => ({ publish, consumers: client.consumers })
  }
  const broker = natsBroker(connection, { timeout: ms(100), history: { manager: wrapped } })
  record(t, broker)
  await t.rejects(broker.append('h:x', Buffer.alloc(100), LIMITS), /always faster/)
  t.equal((await broker.append('h:x', HELLO, LIMITS)).offset, 1)
})

// ---- reading

t.test('any part of a long history is found between those of other channels', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const broker = await jetStreamBroker(t, engine)
  record(t, broker)
  const limits = { ...LIMITS, size: 1000 }
  let next = 1
  for (let round = 0; round < 60; round++) {
    // Records of one to seven messages, with gaps of very different lengths.
    const batch = Array.from({ length: (round % 7) + 1 }, () => Buffer.from(String(next++)))
    await Promise.all(batch.map(message => broker.append('h:x', message, limits)))
    const others = round % 10 === 0 ? 80 : round % 3
    for (let n = 0; n < others; n++) await broker.append('h:y', HELLO, limits)
  }
  const last = next - 1
  for (let since = 0; since <= last; since += 3) {
    const { messages } = await broker.read('h:x', { since, limit: 20 })
    const expected = Array.from({ length: Math.min(20, last - since) }, (_, i) => since + 1 + i)
    t.strictSame(
      messages.map(({ offset, message }) => [offset, Number(Buffer.from(message))]),
      expected.map(n => [n, n]),
      `since ${since}`
    )
    const before = await broker.read('h:x', { since: since + 1, limit: 5, reverse: true })
    t.strictSame(
      before.messages.map(({ offset }) => offset),
      Array.from({ length: Math.min(5, since) }, (_, i) => since - i)
    )
  }
})

t.test(
  'messages that the stream has dropped are missing, and the others are read',
  { skip: natsSkip },
  async t => {
    const engine = await startJetStream(t)
    const manager = await admin(t, engine)
    const broker = await jetStreamBroker(t, engine.engine)
    record(t, broker)
    await appendAll(broker, 'abcdefgh')
    // As with a limit of the stream's bytes.
    await manager.streams.purge(STREAM, { filter: SUBJECT, keep: 3 })
    t.strictSame(await texts(broker), ['6 f', '7 g', '8 h'])
    t.strictSame(await texts(broker, 2), ['6 f', '7 g'])
    const { messages } = await broker.read('h:x', { since: 2, limit: 2 })
    t.strictSame(
      messages.map(({ offset }) => offset),
      [6, 7]
    )
    t.strictSame((await broker.read('h:x', { since: 5, limit: 3, reverse: true })).messages, [])
    // A message in the middle is gone: what is read ends before it.
    const last = await manager.streams.getMessage(STREAM, { last_by_subj: SUBJECT })
    await manager.streams.deleteMessage(STREAM, Number(last?.seq) - 1)
    t.strictSame(await texts(broker), ['6 f'])
  }
)

t.test(
  'messages that expire, are removed or lost during a read leave no gap',
  { skip: natsSkip },
  async t => {
    const engine = await startJetStream(t)
    const manager = await admin(t, engine)
    const accidents: Readonly<Record<string, (broker: HistoryBroker) => Promise<unknown>>> = {
      remove: broker => broker.remove('h:x'),
      purge: () => manager.streams.purge(STREAM, { filter: SUBJECT, keep: 2 }),
      'another epoch': async broker => {
        await manager.streams.purge(STREAM, { filter: SUBJECT })
        await appendAll(broker, 'xyz')
      },
      'a lost stream': () => manager.streams.delete(STREAM)
    }
    for (const [name, accident] of Object.entries(accidents)) {
      for (const step of [1, 2, 3]) {
        const other = await jetStreamBroker(t, engine.engine)
        record(t, other)
        await other.remove('h:x')
        for (let n = 0; n < 30; n++) await other.append('h:x', HELLO, LIMITS)
        const before = await other.read('h:x', { limit: 0 })
        const connection = await natsConnection(t, engine.engine)
        const own = await jetstreamManager(connection)
        let steps = 0
        const getMessage: JetStreamManager['streams']['getMessage'] = async (stream, query) => {
          const found = await own.streams.getMessage(stream, query)
          if ('seq' in query && 'next_by_subj' in query && ++steps === step) await accident(other)
          return found
        }
        const broker = natsBroker(connection, {
          timeout: ms(1000),
          history: { manager: withStreams(own, { getMessage }) }
        })
        record(t, broker)
        const { offset } = before.position
        const since = offset - 15
        const page = await broker.read('h:x', { since, limit: 10 })
        t.strictSame(page.position, before.position, `${name} ${step}`)
        const offsets = page.messages.map(message => message.offset)
        t.strictSame(
          offsets,
          offsets.map((_, i) => (offsets[0] ?? 0) + i),
          'in order and without a gap'
        )
        t.ok(
          offsets.every(each => each > since && each <= offset),
          'of the epoch of the position'
        )
        await Promise.all([broker.close(), other.close()])
      }
    }
  }
)

t.test(
  'ttl counts from the clock of the engine: the clock of the process may be wrong',
  { skip: natsSkip },
  async t => {
    const { engine } = await startJetStream(t)
    const { now } = Date
    t.teardown(() => {
      Date.now = now
    })
    const broker = await jetStreamBroker(t, engine)
    record(t, broker)
    await appendAll(broker, 'a')
    for (const error of [-1e9, 1e9]) {
      Date.now = () => now() + error
      const other = await jetStreamBroker(t, engine)
      record(t, other)
      t.strictSame(await texts(other), ['1 a'])
    }
  }
)

t.test('the clocks are compared again after a failure', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const connection = await natsConnection(t, engine)
  const manager = await jetstreamManager(connection)
  let isFirst = true
  const getMessage: JetStreamManager['streams']['getMessage'] = async (stream, query) => {
    if ('last_by_subj' in query || !isFirst) return await manager.streams.getMessage(stream, query)
    isFirst = false
    return null
  }
  const broker = natsBroker(connection, { history: { manager: withStreams(manager, { getMessage }) } })
  record(t, broker)
  await broker.append('h:x', HELLO, LIMITS)
  await t.rejects(texts(broker), /does not say the time/)
  t.strictSame(await texts(broker), ['1 hello'])
})

t.test('a process remembers the last records of two thousand channels', { skip: natsSkip }, async t => {
  const { engine } = await startJetStream(t)
  const connection = await natsConnection(t, engine)
  const manager = await jetstreamManager(connection, { timeout: ms(20_000) })
  const asked = new Set<string>()
  const getMessage: JetStreamManager['streams']['getMessage'] = (stream, query) => {
    if ('last_by_subj' in query) asked.add(query.last_by_subj)
    return manager.streams.getMessage(stream, query)
  }
  const storage = 'memory'
  const broker = natsBroker(connection, {
    timeout: ms(20_000),
    history: { manager: withStreams(manager, { getMessage }), storage }
  })
  record(t, broker)
  const append = (n: number) => broker.append(`h:${n}`, HELLO, LIMITS)
  const count = 2001
  // All at once: none can be forgotten while it is written.
  await Promise.all([...Array.from({ length: count }, (_, i) => append(i)), append(count - 1)])
  const token = Buffer.from(`h:${count - 1}`).toString('base64url')
  const last = await manager.streams.getMessage(STREAM, {
    last_by_subj: `fastify-upgrade.history.${token}`
  })
  t.equal(last && decodeRecord(last.data)?.messages.length, 2, 'one writer stores the messages of one turn')
  await append(count)
  asked.clear()
  t.equal((await append(count)).offset, 2)
  t.equal(asked.size, 0)
  t.equal((await append(0)).offset, 2)
  t.equal(asked.size, 1, 'the first channel was forgotten')
})

t.test('a consumer that cannot be deleted does not matter', { skip: natsSkip }, async t => {
  const accidents = watchProcess(t)
  const { engine } = await startJetStream(t)
  const connection = await natsConnection(t, engine)
  const manager = await jetstreamManager(connection)
  const deleted: string[] = []
  const wrapped: JetStreamManager = {
    ...withStreams(manager, {}),
    consumers: {
      add: (stream, config) => Reflect.apply(manager.consumers.add, manager.consumers, [stream, config]),
      delete: async (_stream, consumer) => {
        deleted.push(consumer)
        throw new Error('no leader')
      }
    }
  }
  const broker = natsBroker(connection, { history: { manager: wrapped } })
  record(t, broker)
  await appendAll(broker, 'abc')
  t.strictSame(await texts(broker), ['1 a', '2 b', '3 c'])
  t.equal(deleted.length, 1)
  t.strictSame(accidents, [])
})

// ---- outages

t.test(
  'calls are rejected at once when NATS is lost during them, and work again later',
  { skip: natsSkip },
  async t => {
    const accidents = watchProcess(t)
    const { engine } = await startJetStream(t)
    const broker = await jetStreamBroker(t, engine)
    const events = record(t, broker)
    await appendAll(broker, 'ab')
    await engine.hold()
    const calls: readonly Promise<unknown>[] = [
      broker.append('h:x', Buffer.from('c'), LIMITS),
      broker.append('h:y', Buffer.from('c'), LIMITS),
      broker.read('h:x', { limit: 10 }),
      broker.remove('h:x'),
      // In a later record than the first.
      turn().then(() => broker.append('h:x', Buffer.from('e'), LIMITS))
    ]
    const rejections = Promise.all(
      calls.map(call => t.rejects(async () => await call, /the connection to NATS was lost/))
    )
    await engine.kill()
    await withDeadline(rejections, 3000, 'rejections')
    await engine.start()
    await events.until('up', 'down', 'up')
    const { offset } = await broker.append('h:x', Buffer.from('d'), LIMITS)
    t.ok(offset === 3 || offset === 4, 'the third one may have been stored')
    t.strictSame(accidents, [])
  }
)

t.test(
  'a message that was rejected when NATS was lost is not stored after later ones',
  { skip: natsSkip },
  async t => {
    const { engine } = await startJetStream(t)
    const connection = await natsConnection(t, engine)
    const manager = await jetstreamManager(connection)
    const client = manager.jetstream()
    let attempts = 0
    let refuse: (error: Error) => void = () => {}
    const refusal = new Promise<never>((_resolve, reject) => {
      refuse = reject
    })
    const publish = async (subject: string, data: Uint8Array, options?: object) => {
      if (subject === SUBJECT && data.length > 100 && ++attempts === 1) return await refusal
      return await client.publish(subject, data, options)
    }
    const wrapped: JetStreamManager = {
      ...withStreams(manager, {}),
      jetstream: () => ({ publish, consumers: client.consumers })
    }
    const broker = natsBroker(connection, { timeout: ms(20_000), history: { manager: wrapped } })
    const events = record(t, broker)
    await events.until('up')
    const rejection = t.rejects(broker.append('h:x', Buffer.alloc(100), LIMITS), /was lost/)
    while (attempts === 0) await turn()
    await engine.kill()
    await rejection
    await engine.start()
    await events.until('up', 'down', 'up')
    await broker.append('h:x', Buffer.from('a'), LIMITS)
    refuse(Object.assign(new Error('wrong last sequence'), { code: 10071 }))
    await appendAll(broker, 'bcd')
    t.strictSame(await texts(broker), ['1 a', '2 b', '3 c', '4 d'])
    t.equal(attempts, 1)
  }
)

t.test(
  'a message that is too large is rejected, and others are not affected',
  { skip: natsSkip },
  async t => {
    const folder = t.testdir()
    const config = join(folder, 'nats.conf')
    await writeFile(
      config,
      `max_payload: 10000\njetstream: { store_dir: ${JSON.stringify(join(folder, 'js'))} }`
    )
    const engine = await startNats(t, ['-c', config])
    const broker = await jetStreamBroker(t, engine)
    const events = record(t, broker)
    await broker.append('h:x', HELLO, LIMITS)
    const many = Array.from({ length: 20 }, () => broker.append('h:x', Buffer.alloc(1000), LIMITS))
    for (const size of [10_000, 9900, 9750]) {
      await t.rejects(
        broker.append('h:x', Buffer.alloc(size), { ...LIMITS, id: 'x'.repeat(100) }),
        /max_payload/
      )
    }
    await broker.append('h:y', Buffer.alloc(9650), { ...LIMITS, id: 'x'.repeat(100) })
    t.equal((await Promise.all(many)).at(-1)?.offset, 21, 'a record has half of max_payload at most')
    t.equal((await broker.append('h:x', HELLO, LIMITS)).offset, 22)
    t.strictSame(events.states, ['up'])
  }
)

/** The manager with other methods of streams. */
function withStreams(manager: Manager, methods: Partial<JetStreamManager['streams']>): JetStreamManager {
  const { streams } = manager
  return {
    streams: {
      info: methods.info ?? (stream => streams.info(stream)),
      add: config => streams.add({ ...config, subjects: [...config.subjects] }),
      purge: (stream, options) => Reflect.apply(streams.purge, streams, [stream, options]),
      getMessage: methods.getMessage ?? ((stream, query) => streams.getMessage(stream, query)),
      deleteMessage: (stream, seq, erase) => streams.deleteMessage(stream, seq, erase)
    },
    consumers: manager.consumers,
    jetstream: () => manager.jetstream()
  }
}
