// npm run bench:types: how long TypeScript checks an application of 200 routes, by the kind of its routes.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { build, ROOT } from './harness/build.js'
import { median } from './report/summary.js'

const ROUTES = 200
const TSC = createRequire(import.meta.url).resolve('typescript/bin/tsc')
const OPTIONS = [
  ...['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2023', '--module', 'nodenext'],
  ...['--types', 'node', '--ignoreConfig', '--extendedDiagnostics']
]
const PARAMS = 'params: Type.Object({ room: Type.String() })'

/** @type {Readonly<Record<string, (i: number) => string>>} */
const KINDS = {
  'no routes': () => '',
  'routes for requests': i => `
    app.get('/${i}/:room', { schema: { ${PARAMS}, response: { 200: Type.String() } } },
      async request => request.params.room)`,
  'WebSocket routes': i => `
    app.get('/${i}/:room', { websocket: true, schema: { ${PARAMS} } }, async (socket, { params }) => {
      for await (const message of socket) if (typeof message === 'string') socket.send(params.room + message)
    })`,
  'WebSocket routes with `receive` and `send`': i => `
    app.get('/${i}/:room', { websocket: true, schema: { ${PARAMS},
      receive: Type.Union([
        Type.Object({ type: Type.Literal('say${i}'), text: Type.String() }),
        Type.Object({ type: Type.Literal('typing') })
      ]),
      send: Type.Object({ from: Type.String(), text: Type.String() })
    } }, async (socket, { params }) => {
      for await (const message of socket)
        if (message.type === 'say${i}') socket.send({ from: params.room, text: message.text })
    })`
}

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '3' } } })

/** @param {(i: number) => string} route */
function application(route) {
  return `
    import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
    import Fastify from 'fastify'
    import { Type } from 'typebox'
    import upgrade from 'fastify-upgrade'

    void Type
    const plain = Fastify()
    await plain.register(upgrade)
    const app = plain.withTypeProvider<TypeBoxTypeProvider>()
    ${Array.from({ length: ROUTES }, (_, i) => route(i)).join('\n')}
    await app.listen()`
}

/** @param {string} file */
function check(file) {
  const report = execFileSync(process.execPath, [TSC, ...OPTIONS, file], { cwd: ROOT, encoding: 'utf8' })
  /** @param {string} name */
  const figure = name => Number(new RegExp(`^${name}: +([\\d.]+)`, 'm').exec(report)?.[1])
  return { seconds: figure('Check time'), instantiations: figure('Instantiations') }
}

await build()
// In the repository, where the packages and this one are found by their names.
const folder = mkdtempSync(join(ROOT, '.build', 'types-'))
try {
  const files = Object.entries(KINDS).map(([kind, route], index) => {
    const file = join(folder, `${index}.mts`)
    writeFileSync(file, application(route))
    return { kind, file, seconds: /** @type {number[]} */ ([]), instantiations: 0 }
  })
  for (let round = 0; round < Number(values.rounds); round++)
    for (const one of files) {
      const { seconds, instantiations } = check(one.file)
      one.seconds.push(seconds)
      one.instantiations = instantiations
    }
  console.log('| 200 routes | check time, seconds | instantiations |\n| --- | --- | --- |')
  for (const { kind, seconds, instantiations } of files)
    console.log(`| ${kind} | ${median(seconds).toFixed(1)} | ${instantiations.toLocaleString('en')} |`)
} finally {
  rmSync(folder, { recursive: true })
}
