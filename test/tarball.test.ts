import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startChat } from './examples/chat.js'
import { open } from './helpers/app.js'
import { brokenLinks } from './helpers/links.js'
import { run } from './helpers/program.js'
import { root } from './helpers/root.js'

/** The package as npm installs it: packed, and unpacked into a `node_modules`. */
async function install(t: Test): Promise<string> {
  const folder = t.testdir({ node_modules: { 'fastify-upgrade': {} } })
  const target = join(folder, 'node_modules', 'fastify-upgrade')
  // Without scripts, as `prepack` builds dist/ anew, which other tests are running.
  const packed = await run(t, 'npm', ['pack', root, '--ignore-scripts', '--pack-destination', folder])
  t.equal(packed.code, 0, packed.stderr)
  const [tarball = ''] = readdirSync(folder).filter(name => name.endsWith('.tgz'))
  const unpacked = await run(t, 'tar', ['-xzf', join(folder, tarball), '-C', target, '--strip-components=1'])
  t.equal(unpacked.code, 0, unpacked.stderr)
  return target
}

t.test('the package works when it is installed from its tarball', async t => {
  const folder = await install(t)
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  for (const name of [
    'README.md',
    'SECURITY.md',
    'CHANGELOG.md',
    'LICENSE',
    join('docs', 'reference', 'api.md')
  ]) {
    t.ok(files.includes(name), name)
  }
  t.strictSame(brokenLinks(folder), [], 'relative links lead to files and headings')

  const { port } = await startChat(t, { server: join(folder, 'dist', 'examples', 'chat', 'server.js') })
  const page = await fetch(`http://127.0.0.1:${port}/`)
  t.match(await page.text(), '<title>Chat</title>', 'the chat has its page')
  const client = await open(t, port, '/rooms/lobby?name=Ada', { protocols: ['chat.v1'] })
  t.equal(await client.next(), '* welcome, Ada')
})
