import { readdirSync, readFileSync } from 'node:fs'
import { posix } from 'node:path'
import t from 'tap'
import ts from 'typescript'
import { root } from './helpers/root.js'

/** The layers that each layer may import, besides itself. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  protocol: [],
  error: [],
  diagnostics: [],
  options: ['error', 'protocol'],
  compression: ['protocol', 'options'],
  limits: ['protocol', 'options'],
  socket: ['error', 'diagnostics', 'protocol', 'options', 'compression', 'limits'],
  upgrade: ['error', 'protocol', 'options', 'compression', 'limits', 'socket'],
  brokers: ['error'],
  topics: ['error', 'diagnostics', 'protocol', 'limits', 'brokers'],
  fastify: [
    'error',
    'diagnostics',
    'protocol',
    'options',
    'compression',
    'limits',
    'socket',
    'upgrade',
    'topics',
    'brokers',
    'types'
  ],
  asyncapi: ['error', 'options', 'fastify', 'types'],
  testing: ['protocol', 'options', 'compression', 'limits', 'socket', 'upgrade'],
  ws: ['error', 'protocol', 'options', 'compression', 'limits', 'socket', 'upgrade'],
  // Nothing imports it: applications load its files by their sub-paths.
  observe: ['error', 'diagnostics', 'protocol', 'options', 'topics', 'fastify'],
  index: [
    'diagnostics',
    'protocol',
    'options',
    'limits',
    'socket',
    'upgrade',
    'topics',
    'brokers',
    'fastify',
    'testing',
    'types'
  ],
  // The augmentation of Fastify names the plugin's own classes.
  types: ['protocol', 'options', 'limits', 'socket', 'upgrade', 'topics', 'brokers', 'fastify', 'testing']
}

/** The layers that each layer may load lazily with `import()`. */
const MAY_LOAD_LATE: Readonly<Record<string, readonly string[]>> = {
  // Production code does not load it.
  fastify: ['testing']
}

/** The only names that the protocol imports from outside: it does no I/O. */
const PROTOCOL_IMPORTS = ['node:buffer isUtf8', 'node:crypto hash']

interface Import {
  readonly specifier: string
  /** The imported names; `*` for the whole module. */
  readonly names: readonly string[]
  readonly typeOnly: boolean
  /** Whether the module is loaded by a call of `import()`. */
  readonly late: boolean
}

type Files = ReadonlyMap<string, string>

function layerOf(path: string): string | undefined {
  if (path.startsWith('types/')) return 'types'
  return /^lib\/([^/]+?)(?:\/|\.ts$)/.exec(path)?.[1]
}

/** Every import of a module in any form: import, re-export, `import()` as value or type, `require`. */
function importsOf(path: string, source: string): Import[] {
  const found: Import[] = []
  const add = (
    specifier: ts.Node | undefined,
    names: readonly string[],
    typeOnly: boolean,
    late = false
  ): void => {
    const known = specifier !== undefined && ts.isStringLiteralLike(specifier)
    found.push({ specifier: known ? specifier.text : 'unknown', names, typeOnly, late })
  }
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) {
      const { names, typeOnly } = bindings(node.importClause)
      add(node.moduleSpecifier, names, typeOnly)
    } else if (ts.isExportDeclaration(node) && node.moduleSpecifier !== undefined) {
      const { names, typeOnly } = elements(node.exportClause)
      add(node.moduleSpecifier, names, node.isTypeOnly || typeOnly)
    } else if (ts.isImportEqualsDeclaration(node) && ts.isExternalModuleReference(node.moduleReference)) {
      add(node.moduleReference.expression, ['*'], node.isTypeOnly)
    } else if (ts.isImportTypeNode(node)) {
      add(ts.isLiteralTypeNode(node.argument) ? node.argument.literal : undefined, ['*'], true)
    } else if (ts.isCallExpression(node) && loads(node.expression)) {
      add(node.arguments[0], ['*'], false, node.expression.kind === ts.SyntaxKind.ImportKeyword)
    }
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile(path, source, ts.ScriptTarget.Latest, true))
  return found
}

function loads(callee: ts.Expression): boolean {
  return callee.kind === ts.SyntaxKind.ImportKeyword || (ts.isIdentifier(callee) && callee.text === 'require')
}

function bindings(clause: ts.ImportClause | undefined): { names: string[]; typeOnly: boolean } {
  if (clause === undefined) return { names: ['*'], typeOnly: false }
  const { names, typeOnly } = clause.namedBindings
    ? elements(clause.namedBindings)
    : { names: [], typeOnly: false }
  if (clause.name !== undefined) names.push('default')
  const isType = clause.phaseModifier === ts.SyntaxKind.TypeKeyword
  return { names, typeOnly: isType || (typeOnly && clause.name === undefined) }
}

function elements(clause: ts.NamedImportBindings | ts.NamedExportBindings | undefined): {
  names: string[]
  typeOnly: boolean
} {
  if (clause === undefined || !('elements' in clause)) return { names: ['*'], typeOnly: false }
  const list = [...clause.elements]
  const names = list.map(({ name, propertyName }) => (propertyName ?? name).text)
  return { names, typeOnly: list.length > 0 && list.every(({ isTypeOnly }) => isTypeOnly) }
}

/** Violations of the layer rule: edges, and imports of the protocol from outside. */
function forbidden(files: Files): string[] {
  const problems: string[] = []
  for (const [path, source] of files) {
    for (const one of importsOf(path, source)) {
      const { specifier, names } = one
      const target = resolve(path, specifier)
      const bad = target === undefined ? outside(path, specifier, names) : edge(files, path, target, one)
      if (bad !== undefined) problems.push(`${path} -> ${target ?? specifier}: ${bad}`)
    }
  }
  return problems
}

/** The file that a relative specifier means; undefined for a package. */
function resolve(path: string, specifier: string): string | undefined {
  if (!specifier.startsWith('.')) return undefined
  return posix.join(posix.dirname(path), specifier).replace(/\.js$/, '.ts')
}

function outside(path: string, specifier: string, names: readonly string[]): string | undefined {
  if (specifier === 'unknown') return 'cannot be checked'
  if (layerOf(path) !== 'protocol') return undefined
  const foreign = names.filter(name => !PROTOCOL_IMPORTS.includes(`${specifier} ${name}`))
  return foreign.length > 0 || names.length === 0 ? `the protocol imports ${foreign.join(', ')}` : undefined
}

function edge(
  files: Files,
  path: string,
  target: string,
  { typeOnly, late }: Pick<Import, 'typeOnly' | 'late'>
): string | undefined {
  const from = layerOf(path)
  const to = layerOf(target)
  if (!files.has(target)) return 'no such file'
  if (from === undefined || to === undefined) return 'no layer'
  if (from === to) return undefined
  if (late && (MAY_LOAD_LATE[from] ?? []).includes(to)) return undefined
  if (!(MAY_IMPORT[from] ?? []).includes(to)) return `${from} may not import ${to}`
  if ((from === 'types' || to === 'types') && !typeOnly) return 'for types only'
  return undefined
}

/** All modules that are loaded with a file. Type imports and calls of `import()` are left out. */
function loadedWith(files: Files, first: string): Set<string> {
  const loaded = new Set([first])
  for (const path of loaded) {
    for (const { specifier, typeOnly, late } of importsOf(path, files.get(path) ?? '')) {
      const target = resolve(path, specifier)
      if (target !== undefined && !typeOnly && !late) loaded.add(target)
    }
  }
  return loaded
}

/** A cycle for every import that closes one, in the order of the files. */
function cycles(files: Files): string[] {
  const done = new Set<string>()
  const found: string[] = []
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path)
    if (start !== -1) found.push([...trail.slice(start), path].join(' -> '))
    const source = files.get(path)
    if (done.has(path) || start !== -1 || source === undefined) return
    const targets = new Set(importsOf(path, source).map(({ specifier }) => resolve(path, specifier)))
    for (const target of targets) if (target !== undefined) visit(target, [...trail, path])
    done.add(path)
  }
  for (const path of files.keys()) visit(path, [])
  return found
}

function readFiles(): Files {
  const files = new Map<string, string>()
  for (const folder of ['lib', 'types']) {
    for (const entry of readdirSync(`${root}/${folder}`, { recursive: true, encoding: 'utf8' })) {
      const path = posix.join(folder, entry.replaceAll('\\', '/'))
      if (path.endsWith('.ts')) files.set(path, readFileSync(`${root}/${path}`, 'utf8'))
    }
  }
  return files
}

const FILES = readFiles()

t.test('every file of lib and types is in a layer that has a rule', t => {
  t.ok(FILES.has('lib/index.ts'))
  t.ok(FILES.has('lib/protocol/connection.ts'))
  for (const path of FILES.keys()) t.ok(Object.hasOwn(MAY_IMPORT, layerOf(path) ?? ''), path)
  t.end()
})

t.test('imports point one way', t => {
  t.strictSame(forbidden(FILES), [])
  t.end()
})

t.test('modules that only tests need are not loaded in production', t => {
  const loaded = loadedWith(FILES, 'lib/index.ts')
  t.ok(loaded.has('lib/fastify/plugin.ts'))
  t.ok(loaded.has('lib/socket/websocket.ts'))
  t.strictSame(
    [...loaded].filter(path => layerOf(path) === 'testing'),
    []
  )
  t.end()
})

t.test('no file imports itself, directly or through others', t => {
  t.strictSame(cycles(FILES), [])
  t.end()
})

/** A graph of one good file in each layer, and `source` as `path`. */
function graphWith(path: string, source: string): Files {
  return new Map([
    ['lib/protocol/a.ts', "import { isUtf8 } from 'node:buffer'\nimport { hash } from 'node:crypto'"],
    ['lib/protocol/b.ts', "import { a } from './a.js'\nexport type { B } from './a.js'"],
    ['lib/socket/a.ts', "import { b } from '../protocol/b.js'\nimport net from 'node:net'"],
    ['lib/brokers/a.ts', "import type { Redis } from 'ioredis'"],
    ['lib/topics/a.ts', "import type { A } from '../brokers/a.js'"],
    ['lib/upgrade/a.ts', "import { a } from '../socket/a.js'\nimport { b } from '../protocol/b.js'"],
    [
      'lib/fastify/a.ts',
      "import { b } from '../protocol/b.js'\nimport '../topics/a.js'\nimport { type T } from '../../types/a.js'"
    ],
    ['lib/asyncapi/a.ts', "import '../fastify/a.js'"],
    ['lib/testing/a.ts', "import '../socket/a.js'\nexport * from '../protocol/a.js'"],
    ['lib/index.ts', "export { a } from './fastify/a.js'\nexport type { T } from '../types/a.js'"],
    ['types/a.ts', "import type { A } from '../lib/socket/a.js'\nimport type {} from 'fastify'"],
    [path, source]
  ])
}

t.test('the check accepts allowed imports', t => {
  const good = graphWith('lib/ws/a.ts', "import { type A, a } from '../upgrade/a.js'")
  t.strictSame(forbidden(good), [])
  t.strictSame(cycles(good), [])
  t.end()
})

t.test('the plugin may load testing modules lazily', t => {
  const late = graphWith('lib/fastify/c.ts', "const a = async () => (await import('../testing/a.js')).a")
  t.strictSame(forbidden(late), [])
  t.notOk(loadedWith(late, 'lib/fastify/c.ts').has('lib/testing/a.ts'))
  const typed = graphWith('types/c.ts', "import type { A } from '../lib/testing/a.js'")
  t.strictSame(forbidden(typed), [])
  t.notOk(loadedWith(typed, 'types/c.ts').has('lib/testing/a.ts'))
  const early = graphWith('lib/fastify/c.ts', "export * from '../testing/a.js'")
  t.ok(loadedWith(early, 'lib/fastify/c.ts').has('lib/testing/a.ts'))
  t.end()
})

const FORBIDDEN: [path: string, source: string, problem: string][] = [
  ['lib/protocol/c.ts', "import { a } from '../socket/a.js'", 'protocol may not import socket'],
  ['lib/protocol/c.ts', "import type { A } from '../socket/a.js'", 'protocol may not import socket'],
  ['lib/protocol/c.ts', "import '../socket/a.js'", 'protocol may not import socket'],
  ['lib/protocol/c.ts', "export { a } from '../socket/a.js'", 'protocol may not import socket'],
  ['lib/protocol/c.ts', "export type { A } from '../socket/a.js'", 'protocol may not import socket'],
  ['lib/protocol/c.ts', "export * from '../socket/a.js'", 'protocol may not import socket'],
  ['lib/protocol/c.ts', "export * as a from '../socket/a.js'", 'protocol may not import socket'],
  [
    'lib/protocol/c.ts',
    "const a = (): unknown => import('../socket/a.js')",
    'protocol may not import socket'
  ],
  ['lib/protocol/c.ts', 'const a = () => import(`../socket/a.js`)', 'protocol may not import socket'],
  ['lib/protocol/c.ts', "const a = require('../socket/a.js')", 'protocol may not import socket'],
  ['lib/protocol/c.ts', "import a = require('../socket/a.js')", 'protocol may not import socket'],
  ['lib/protocol/c.ts', "let a: import('../socket/a.js').A", 'protocol may not import socket'],
  ['lib/protocol/c.ts', "let a: typeof import('../socket/a.js')", 'protocol may not import socket'],
  ['lib/protocol/c.ts', "import type { T } from '../../types/a.js'", 'protocol may not import types'],
  ['lib/protocol/c.ts', "import { isAscii, isUtf8 } from 'node:buffer'", 'the protocol imports isAscii'],
  ['lib/protocol/c.ts', "import { isAscii as isUtf8 } from 'node:buffer'", 'the protocol imports isAscii'],
  ['lib/protocol/c.ts', "import buffer from 'node:buffer'", 'the protocol imports default'],
  ['lib/protocol/c.ts', "import * as buffer from 'node:buffer'", 'the protocol imports *'],
  ['lib/protocol/c.ts', "import type { Socket } from 'node:net'", 'the protocol imports Socket'],
  ['lib/protocol/c.ts', "import type {} from 'node:net'", 'the protocol imports '],
  ['lib/protocol/c.ts', "import 'node:net'", 'the protocol imports *'],
  ['lib/protocol/c.ts', "import { isUtf8 } from 'buffer'", 'the protocol imports isUtf8'],
  ['lib/protocol/c.ts', "const name = 'node:net'\nimport(name)", 'cannot be checked'],
  ['lib/socket/c.ts', "import { a } from '../topics/a.js'", 'socket may not import topics'],
  ['lib/socket/c.ts', "import type { A } from '../fastify/a.js'", 'socket may not import fastify'],
  ['lib/socket/c.ts', "import type { T } from '../../types/a.js'", 'socket may not import types'],
  ['lib/topics/c.ts', "import { a } from '../socket/a.js'", 'topics may not import socket'],
  ['lib/testing/c.ts', "import { a } from '../fastify/a.js'", 'testing may not import fastify'],
  ['lib/ws/c.ts', "import { a } from '../testing/a.js'", 'ws may not import testing'],
  ['lib/asyncapi/c.ts', "import { a } from '../socket/a.js'", 'asyncapi may not import socket'],
  ['lib/fastify/c.ts', "import { a } from '../asyncapi/a.js'", 'fastify may not import asyncapi'],
  ['lib/socket/c.ts', "import { a } from '../upgrade/a.js'", 'socket may not import upgrade'],
  ['lib/topics/c.ts', "import { a } from '../upgrade/a.js'", 'topics may not import upgrade'],
  ['lib/upgrade/c.ts', "import { a } from '../fastify/a.js'", 'upgrade may not import fastify'],
  ['lib/fastify/c.ts', "import { a } from '../testing/a.js'", 'fastify may not import testing'],
  ['lib/fastify/c.ts', "import type { A } from '../testing/a.js'", 'fastify may not import testing'],
  ['lib/fastify/c.ts', "import '../testing/a.js'", 'fastify may not import testing'],
  ['lib/fastify/c.ts', "export { a } from '../testing/a.js'", 'fastify may not import testing'],
  ['lib/fastify/c.ts', "export * from '../testing/a.js'", 'fastify may not import testing'],
  ['lib/fastify/c.ts', "const a = require('../testing/a.js')", 'fastify may not import testing'],
  ['lib/fastify/c.ts', "let a: typeof import('../testing/a.js')", 'fastify may not import testing'],
  ['lib/fastify/c.ts', "const a = () => import('../testing/none.js')", 'no such file'],
  ['lib/socket/c.ts', "const a = () => import('../testing/a.js')", 'socket may not import testing'],
  ['lib/ws/c.ts', "const a = () => import('../testing/a.js')", 'ws may not import testing'],
  ['lib/testing/c.ts', "const a = () => import('../fastify/a.js')", 'testing may not import fastify'],
  ['types/c.ts', "import { a } from '../lib/testing/a.js'", 'for types only'],
  ['types/c.ts', "const a = () => import('../lib/testing/a.js')", 'for types only'],
  ['lib/fastify/c.ts', "import { a } from '../index.js'", 'fastify may not import index'],
  ['lib/fastify/c.ts', "import { T } from '../../types/a.js'", 'for types only'],
  ['lib/fastify/c.ts', "import { type T, u } from '../../types/a.js'", 'for types only'],
  ['lib/fastify/c.ts', "import u, { type T } from '../../types/a.js'", 'for types only'],
  ['lib/fastify/c.ts', "import '../../types/a.js'", 'for types only'],
  ['lib/fastify/c.ts', "export * from '../../types/a.js'", 'for types only'],
  ['lib/fastify/c.ts', "import { a } from './none.js'", 'no such file'],
  ['lib/other/c.ts', "import { a } from '../protocol/a.js'", 'other may not import protocol'],
  ['types/c.ts', "import { a } from '../lib/socket/a.js'", 'for types only'],
  ['types/c.ts', "import type { A } from '../lib/index.js'", 'types may not import index']
]

for (const [path, source, problem] of FORBIDDEN) {
  t.test(`the check finds out: ${path}: ${source}`, t => {
    const problems = forbidden(graphWith(path, source))
    t.equal(problems.length, 1)
    t.ok(problems[0]?.startsWith(`${path} -> `))
    t.ok(problems[0]?.endsWith(`: ${problem}`), problems[0])
    t.end()
  })
}

t.test('the check finds out cycles', t => {
  const cyclesWith = (path: string, source: string): string[] => cycles(graphWith(path, source))
  t.strictSame(cyclesWith('lib/protocol/a.ts', "import type { B } from './b.js'"), [
    'lib/protocol/a.ts -> lib/protocol/b.ts -> lib/protocol/a.ts'
  ])
  t.strictSame(cyclesWith('lib/protocol/c.ts', "export * from './c.js'"), [
    'lib/protocol/c.ts -> lib/protocol/c.ts'
  ])
  t.strictSame(cyclesWith('lib/protocol/a.ts', "const late = () => import('../fastify/a.js')"), [
    'lib/protocol/a.ts -> lib/fastify/a.ts -> lib/protocol/b.ts -> lib/protocol/a.ts'
  ])
  t.end()
})
