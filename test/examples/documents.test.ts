import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { checkDocument } from '../asyncapi/parser.js'
import { withDeadline } from '../helpers/app.js'
import { start } from '../helpers/program.js'
import { root } from '../helpers/root.js'

const built = (...path: string[]): string => pathToFileURL(join(root, 'dist', ...path)).href

// Registers the plugin in every application, before anything else.
const REGISTER = `data:text/javascript,${encodeURIComponent(`
import { subscribe } from 'node:diagnostics_channel'
import { asyncapi } from '${built('lib', 'asyncapi', 'index.js')}'
subscribe('fastify.initialization', ({ fastify }) => {
  fastify.register(asyncapi, { info: { title: 'Example', version: '1.0.0' }, routePrefix: '/document', page: false })
})`)}`

const settings = {
  PORT: '0',
  HOST: '127.0.0.1',
  TOKEN: 'a-random-text-of-32-characters-or-more',
  SECRET: 'a-random-text-of-32-characters-or-more',
  PASSWORD: 'correct horse battery staple'
}

for (const [name, channels] of Object.entries({
  chat: ['rooms-room.chat.v1', 'rooms-room.chat.v2', 'chatsocket'],
  'authentication/bearer': ['news'],
  'authentication/session': ['news'],
  'authentication/subprotocol': ['chat.chat.v1']
})) {
  t.test(`the example ${name} has a valid document`, async t => {
    const file = join(root, 'dist', 'examples', name.includes('/') ? `${name}.js` : join(name, 'server.js'))
    const child = start(t, process.execPath, ['--import', REGISTER, file], {
      env: { ...process.env, ...settings }
    })
    child.stderr.pipe(process.stderr)
    const [line]: unknown[] = await withDeadline(once(createInterface(child.stdout), 'line'), 10_000, name)
    const [origin = ''] = /http:\/\/[\d.:]+/.exec(String(line)) ?? []
    const document = JSON.parse(await (await fetch(`${origin}/document/json`)).text())
    await checkDocument(t, document)
    t.strictSame(Object.keys(document.channels), channels)
  })
}
