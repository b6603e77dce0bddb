import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import * as asyncapiErrors from '../lib/asyncapi/error.js'
import * as brokerErrors from '../lib/brokers/error.js'
import * as fastifyErrors from '../lib/fastify/error.js'
import * as observeErrors from '../lib/observe/error.js'
import * as optionErrors from '../lib/options/error.js'
import { SECTIONS } from '../lib/options/table.js'
import * as violations from '../lib/protocol/violation.js'
import * as socketErrors from '../lib/socket/error.js'
import * as testingErrors from '../lib/testing/error.js'
import * as topicErrors from '../lib/topics/error.js'
import * as upgradeErrors from '../lib/upgrade/error.js'
import * as wsErrors from '../lib/ws/error.js'
import { brokenLinks } from './helpers/links.js'
import { root } from './helpers/root.js'

const read = (...path: string[]): string => readFileSync(join(root, ...path), 'utf8')

/** The codes in the source: error classes and violations are read at run time, refusals from the text of the source. */
function codesInSource(): string[] {
  const codes = new Set<string>()
  for (const [name, one] of Object.entries({
    ...fastifyErrors,
    ...socketErrors,
    ...upgradeErrors,
    ...wsErrors,
    ...brokerErrors,
    ...topicErrors,
    ...testingErrors,
    ...asyncapiErrors,
    ...observeErrors,
    ...optionErrors
  })) {
    if (typeof one !== 'function' || !/^[A-Z]\w*Error$/.test(name)) continue
    const error: unknown = Reflect.construct(one, ['', '', ''])
    if (error instanceof Error && 'code' in error) codes.add(String(error.code))
  }
  for (const one of Object.values({ ...violations, ...wsErrors }))
    if ('code' in one) codes.add(String(one.code))
  for (const [, code] of read('lib/protocol/handshake/request.ts').matchAll(
    /(?:badRequest|refusal\(\d+, )\(?\s*'([A-Z_]+)'/g
  )) {
    codes.add(`FST_UPGRADE_${code}`)
  }
  for (const [code] of read('lib/upgrade/verify-client.ts').matchAll(/FST_UPGRADE_[A-Z_]+/g)) codes.add(code)
  return [...codes].sort()
}

t.test('docs/reference/errors.md lists each code of the source once, and no others', async t => {
  const documented = Array.from(
    read('docs/reference/errors.md').matchAll(/^\| `(FST_UPGRADE_[A-Z0-9_]+)`/gm),
    ([, code]) => code
  )
  t.equal(new Set(documented).size, documented.length)
  t.strictSame([...documented].sort(), codesInSource())
})

t.test('docs/reference/options.md equals the output of `npm run docs:options`', async t => {
  const { optionsDocument } = await import(pathToFileURL(join(root, 'scripts', 'options-doc.mjs')).href)
  t.equal(read('docs/reference/options.md'), optionsDocument(SECTIONS))
})

t.test('each guard in SECURITY.md names an existing test', async t => {
  const rows = [...read('SECURITY.md').matchAll(/\| `(test\/\S+)`: (.+?) +\|$/gm)]
  const lines = [...read('SECURITY.md').matchAll(/^\| .+/gm)]
  t.equal(rows.length, lines.length - 2, 'all lines except the head of the table')
  for (const [, file, name] of rows) {
    const title = read(file)
      .split('\n')
      .some(line => line.includes(name))
    t.ok(title, `${file}: ${name}`)
  }
})

t.test('relative links in the documents lead to existing files and headings', async t => {
  t.strictSame(brokenLinks(root), [])
  const folder = t.testdir({
    'a.md':
      '# One, two\n\n## `b` & c_d\n\n[x](b.md#part) [x](#one-two) [x](#b--c_d) [x](b.md#part-1)\n```\n[x](y)\n# Z\n```',
    'b.md':
      '## Part\n## Part\n[x](a.md#z) ![x](no.svg) <a href="c.md">x</a> [x](../b.md) `[x](y)` [x](https://x.test/y)'
  })
  t.strictSame(brokenLinks(folder), ['b.md: a.md#z', 'b.md: no.svg', 'b.md: ../b.md', 'b.md: c.md'])
})
