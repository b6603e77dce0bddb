import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, sep } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { root } from '../helpers/root.js'

/** The names that incomplete snippets use. Snippets that import or declare such a name use their own. */
const PRELUDE = `
  import type { TestContext } from 'node:test'
  import type { FastifyInstance, FastifyRequest, onRequestHookHandler, RouteHandlerMethod } from 'fastify'
  import type { MercuriusOptions } from 'mercurius'
  import type { Broker, WebSocket, WebSocketHandler } from 'fastify-upgrade'
  import type { InjectOptions } from 'fastify-upgrade/testing'

  declare global {
    const app: FastifyInstance
    const upgrade: typeof import('fastify-upgrade').default
    const prepare: typeof import('fastify-upgrade').prepare
    const asyncapi: typeof import('fastify-upgrade/asyncapi').default
    const redisBroker: typeof import('fastify-upgrade/redis').redisBroker
    const Fastify: typeof import('fastify').default
    const fastifyRedis: typeof import('@fastify/redis').default
    const mercurius: typeof import('mercurius').default
    const { schema, resolvers }: Required<Pick<MercuriusOptions, 'schema' | 'resolvers'>>
    const FakeTimers: typeof import('@sinonjs/fake-timers')
    const assert: typeof import('node:assert/strict')
    const once: typeof import('node:events').once
    const t: TestContext
    const socket: WebSocket
    const request: FastifyRequest
    const large: Buffer
    const news: object
    const httpHandler: RouteHandlerMethod
    const handler: WebSocketHandler
    const socketHandler: WebSocketHandler
    const jsonChat: WebSocketHandler
    const textChat: WebSocketHandler
    const plainChat: WebSocketHandler
    const proxy: WebSocketHandler
    const isKnownUpstream: (subprotocol: string) => boolean
    const isSignedIn: (request: FastifyRequest) => Promise<boolean>
    const checkToken: onRequestHookHandler
    const handshakeTime: { observe(milliseconds: number): void }
    const responseTime: { observe(milliseconds: number): void }
    const connect: () => void
    const play: (move: unknown) => void
    const saySchema: object
    const saidSchema: object
    const show: (data: unknown) => void
    const loadAgain: () => void
    function stop(code: number, reason: string): void
    let attempts: number
    const onInit: InjectOptions['onInit']
    const AppModule: new () => object
    const MyBroker: new (url: string) => Broker
    const headers: Record<string, string>
    const url: string
    const key: Buffer
    const cert: Buffer
  }
`

interface Snippet {
  readonly file: string
  readonly line: number
  readonly text: string
}

function snippets(): Snippet[] {
  const docs = readdirSync(join(root, 'docs'), { recursive: true, encoding: 'utf8' })
  return ['README.md', ...docs.map(name => `docs/${name.replaceAll(sep, '/')}`)]
    .filter(page => page.endsWith('.md'))
    .flatMap(page => {
      const markdown = readFileSync(join(root, page), 'utf8')
      return Array.from(markdown.matchAll(/^```(?:js|ts)\n(.*?)^```/gms), ({ index, 1: text = '' }) => {
        const line = markdown.slice(0, index).split('\n').length + 1
        return { file: join(root, `${page}-${line}.ts`), line, text: `${text}\nexport {}\n` }
      })
    })
}

t.test('each snippet in README.md and docs/ type-checks', async t => {
  const found = snippets()
  t.ok(found.length > 40, `${found.length} snippets`)
  const virtual = new Map(found.map(({ file, text }) => [file, text]))
  virtual.set(join(root, 'prelude.ts'), PRELUDE)
  // The modules that snippets import: a program of the reader, or another snippet of the same page.
  const tokens = found.find(({ text }) => text.includes('class Tokens'))?.file ?? ''
  virtual.set(join(dirname(tokens), 'tokens.ts'), `export * from '${tokens.replace(/ts$/, 'js')}'`)
  const chat = found.find(({ text }) => text.includes('export const chat ='))?.file ?? ''
  virtual.set(join(root, 'docs', 'chat.ts'), `export * from '${chat.replace(/ts$/, 'js')}'`)
  for (const folder of ['docs', join('docs', 'guides')]) {
    virtual.set(join(root, folder, 'app.ts'), 'export const buildApp = () => app')
    virtual.set(join(root, folder, 'app.mts'), 'export const buildApp = async (_options?: object) => app')
  }
  const options: ts.CompilerOptions = {
    noEmit: true,
    strict: true,
    target: ts.ScriptTarget.ES2023,
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    types: ['node'],
    skipLibCheck: true
  }
  const host = ts.createCompilerHost(options)
  const { fileExists, readFile, getSourceFile } = host
  host.fileExists = file => virtual.has(file) || fileExists(file)
  host.readFile = file => virtual.get(file) ?? readFile(file)
  host.getSourceFile = (file, settings, ...rest) => {
    const text = virtual.get(file)
    return text === undefined
      ? getSourceFile(file, settings, ...rest)
      : ts.createSourceFile(file, text, settings)
  }
  // Pages of the documentation import libraries that only this folder has installed.
  const here = join(root, 'test', 'interop', 'snippets.ts')
  host.resolveModuleNameLiterals = (literals, file, redirected, settings, source) =>
    literals.map(literal => {
      const mode = ts.getModeForUsageLocation(source, literal, settings)
      const resolve = (from: string): ts.ResolvedModuleWithFailedLookupLocations =>
        ts.resolveModuleName(literal.text, from, settings, host, undefined, redirected, mode)
      const resolution = resolve(file)
      return resolution.resolvedModule ? resolution : resolve(here)
    })
  const program = ts.createProgram([...virtual.keys()], options, host)
  for (const file of virtual.keys()) {
    const source = program.getSourceFile(file)
    const first = found.find(one => one.file === file)?.line ?? 1
    const errors = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)]
    t.strictSame(
      errors.map(({ start = 0, messageText }) => {
        const line = first + (source?.getLineAndCharacterOfPosition(start).line ?? 0)
        return `line ${line}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`
      }),
      [],
      file.slice(root.length + 1).replace(/-\d+\.ts$/, ` ${first}`)
    )
  }
})
