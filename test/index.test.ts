import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import t from 'tap'
import * as all from '../lib/index.js'
import * as testing from '../lib/testing/index.js'
import { root } from './helpers/root.js'

t.test('the package exports the documented names', async t => {
  t.strictSame(Object.keys(all).sort(), [
    'MemoryBroker',
    'MemoryHub',
    'WebSocket',
    'WebSocketServer',
    'default',
    'fastifyUpgrade',
    'fastifyWebsocket',
    'prepare'
  ])
  t.equal(all.default, all.fastifyUpgrade)
  t.equal(all.default, all.fastifyWebsocket, 'the name of @fastify/websocket')
})

t.test(
  'import and require of each built entry of the package return the same values under the same names',
  async t => {
    const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
    const entries = Object.keys(exports).filter(name => name !== './package.json')
    t.strictSame(entries, [
      '.',
      './ws',
      './testing',
      './broker-contract',
      './asyncapi',
      './redis',
      './nats',
      './prometheus',
      './opentelemetry',
      './console'
    ])
    const load = createRequire(import.meta.url)
    for (const entry of entries) {
      const name = `fastify-upgrade${entry.slice(1)}`
      const imported: Readonly<Record<string, unknown>> = await import(name)
      const required: Readonly<Record<string, unknown>> = load(name)
      const names = Object.keys(imported)
      t.ok(names.length > 0, name)
      for (const one of names) t.equal(required[one], imported[one], `${name}: ${one}`)
      if (imported.default) t.equal(required, imported.default, `${name}: the module itself`)
      else t.strictSame(Object.keys(required), names, `${name}: no other names`)
    }
  }
)

t.test('the built fastify-upgrade/testing entry works', async t => {
  const imported: Readonly<Record<string, unknown>> = await import('fastify-upgrade/testing')
  t.strictSame(Object.keys(imported).sort(), [
    'InjectHttp2Error',
    'InjectInvalidResponseError',
    'InjectRefusedError',
    'WebSocket',
    'inject'
  ])
  t.strictSame(Object.keys(testing).sort(), Object.keys(imported).sort())
})

/** The peer dependencies that a file loads. */
const LOADED_BY: Readonly<Record<string, readonly string[]>> = {
  [join('observe', 'opentelemetry')]: ['@opentelemetry/api'],
  [join('observe', 'spans')]: ['@opentelemetry/api'],
  [join('observe', 'prometheus')]: ['prom-client']
}

t.test('only the entries for metrics load their peer dependencies', async t => {
  const { peerDependenciesMeta } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const peers = Object.keys(peerDependenciesMeta)
  t.strictSame(peers, [
    '@asyncapi/react-component',
    '@nats-io/jetstream',
    '@nats-io/transport-node',
    '@opentelemetry/api',
    'ioredis',
    'iovalkey',
    'prom-client'
  ])
  const files = readdirSync(join(root, 'dist', 'lib'), { recursive: true, encoding: 'utf8' })
  for (const file of files.filter(name => /\.(js|d\.ts)$/.test(name))) {
    const text = readFileSync(join(root, 'dist', 'lib', file), 'utf8')
    const loaded = peers.filter(peer => text.includes(`'${peer}'`))
    t.strictSame(loaded, LOADED_BY[file.replace(/\.d\.ts$|\.js$/, '')] ?? [], file)
  }
  t.strictSame(Object.keys(await import('fastify-upgrade/redis')), ['redisBroker'])
  t.strictSame(Object.keys(await import('fastify-upgrade/nats')), ['natsBroker'])
  t.strictSame(Object.keys(await import('fastify-upgrade/asyncapi')), ['asyncapi', 'default'])
  t.strictSame(Object.keys(await import('fastify-upgrade/console')), ['default', 'websocketConsole'])
})
