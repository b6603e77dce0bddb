// What an editor shows for the socket of a route and its messages.
import { join } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { root } from '../helpers/root.js'
import { ms } from '../helpers/timeout.js'

const SOURCE = `
  import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
  import Fastify from 'fastify'
  import type { ZodTypeProvider } from 'fastify-type-provider-zod'
  import { Type } from 'typebox'
  import { z } from 'zod'
  import upgrade, { type ClientOf } from '../../lib/index.js'

  const app = Fastify()
  await app.register(upgrade)
  const say = { type: Type.Literal('say'), text: Type.String() }
  const schema = {
    receive: Type.Union([Type.Object(say), Type.Object({ type: Type.Literal('typing') })]),
    send: Type.Object({ from: Type.String() })
  }
  app.withTypeProvider<TypeBoxTypeProvider>().get('/', { websocket: true, schema }, typeBoxSocket => {
    typeBoxSocket.on('message', message => message)
  })
  const moves = { receive: z.object({ x: z.number() }), send: z.object({ y: z.number().optional() }) }
  app.withTypeProvider<ZodTypeProvider>().get('/', { websocket: true, schema: moves }, zodSocket => zodSocket.close())
  app.get('/', { websocket: true }, plainSocket => plainSocket.close())
  type Client = ClientOf<typeof schema, TypeBoxTypeProvider>
`

const SAY = '{ type: "say"; text: string; } | { type: "typing"; }'

t.setTimeout(ms(300_000))

t.test('hover texts name the messages of a route, not its schemas', async t => {
  const file = join(root, 'test', 'typescript', 'hovered.ts')
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root)
  const read = (path: string): string | undefined => (path === file ? SOURCE : ts.sys.readFile(path))
  const service = ts.createLanguageService({
    ...ts.sys,
    useCaseSensitiveFileNames: () => ts.sys.useCaseSensitiveFileNames,
    fileExists: path => path === file || ts.sys.fileExists(path),
    readFile: read,
    getCompilationSettings: () => options,
    getCurrentDirectory: () => root,
    getDefaultLibFileName: ts.getDefaultLibFilePath,
    getScriptFileNames: () => [file],
    getScriptVersion: () => '1',
    getScriptSnapshot: path => {
      const text = read(path)
      return text === undefined ? undefined : ts.ScriptSnapshot.fromString(text)
    }
  })
  for (const [name, expected] of [
    ['typeBoxSocket', `(parameter) typeBoxSocket: WebSocket<${SAY}, { from: string; }>`],
    ['message =>', `(parameter) message: ${SAY}`],
    ['zodSocket', '(parameter) zodSocket: WebSocket<{ x: number; }, { y?: number | undefined; }>'],
    ['plainSocket', '(parameter) plainSocket: WebSocket<Message, SendData>'],
    ['Client =', `type Client = { readonly send: ${SAY}; readonly receive: { from: string; }; }`]
  ] as const) {
    const { displayParts } = service.getQuickInfoAtPosition(file, SOURCE.indexOf(name)) ?? {}
    t.equal(ts.displayPartsToString(displayParts).replaceAll(/\s+/g, ' '), expected)
  }
})
