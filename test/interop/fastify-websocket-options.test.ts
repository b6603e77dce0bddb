import { createServer } from 'node:http'
import t from 'tap'
import { bareApp } from '../helpers/app.js'
import { PACKAGES } from './packages.js'

/** Whether each package accepts an option of @fastify/websocket, or of the `options` that it passes to ws. */
const OPTIONS: readonly (readonly [options: object, theirs: boolean, ours: boolean])[] = [
  [{ errorHandler: () => {} }, true, true],
  [{ errorHandler: 'no function' }, false, false],
  [{ preClose: async () => {} }, true, true],
  [{ preClose: 'no function' }, false, false],
  [{ handle: () => {} }, true, false],
  [{ prefix: '/x', logLevel: 'info' }, true, true],
  [{ options: {} }, true, true],
  [{ options: { maxPayload: 1 } }, true, true],
  [{ options: { maxPayload: 0 } }, true, true],
  ...[Infinity, 1e10, '1024', 10.5, null, undefined].flatMap(
    value =>
      [
        [{ options: { maxPayload: value } }, true, true],
        [{ options: { closeTimeout: value } }, true, true]
      ] as const
  ),
  [{ options: { closeTimeout: 0 } }, true, true],
  [{ options: { perMessageDeflate: null, verifyClient: null, handleProtocols: null } }, true, true],
  [{ options: { clientTracking: 1, autoPong: 1, skipUTF8Validation: 0 } }, true, true],
  [{ options: { maxPayload: -1 } }, true, false],
  [{ options: { closeTimeout: 1 } }, true, true],
  [{ options: { handleProtocols: () => false } }, true, true],
  [{ options: { verifyClient: () => true } }, true, true],
  [{ options: { perMessageDeflate: true } }, true, true],
  [{ options: { perMessageDeflate: { threshold: 10, zlibDeflateOptions: { level: 1 } } } }, true, true],
  [{ options: { clientTracking: true, autoPong: true, skipUTF8Validation: false } }, true, true],
  [{ options: { clientTracking: false } }, true, false],
  [{ options: { autoPong: false } }, true, false],
  [{ options: { skipUTF8Validation: true } }, true, false],
  [{ options: { allowSynchronousEvents: false } }, true, false],
  [{ options: { maxBufferedChunks: 1 } }, true, false],
  [{ options: { maxFragments: 1 } }, true, false],
  [{ options: { maxPendingAutoPongs: 1 } }, true, false],
  [{ options: { WebSocket: class {} } }, true, false],
  [{ options: { noServer: true } }, false, false],
  [{ options: { path: '/x' } }, true, false],
  [{ options: { server: createServer() } }, true, false]
]

for (const [options, ...expected] of OPTIONS) {
  t.test(
    JSON.stringify(options, (_, value) => (typeof value === 'function' ? 'function' : value)).slice(0, 100),
    async t => {
      for (const [index, [name, plugin]] of PACKAGES.entries()) {
        const { app } = bareApp(t)
        const [error] = await Promise.resolve(app.register(plugin, options)).then(
          () => [],
          (error: unknown) => [error]
        )
        t.equal(error === undefined, expected[index], name)
        if (name === 'fastify-upgrade' && error !== undefined)
          t.match(error, { code: /^FST_UPGRADE_(INVALID|UNKNOWN)_OPTION$/ })
        await app.close().catch(() => {})
      }
    }
  )
}
