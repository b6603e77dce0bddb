import { createReadStream, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { FastifyInstance, RouteShorthandOptions } from 'fastify'
import { MissingComponentError } from './error.js'

/** The script and the style sheet of the page. They are not compiled. */
const FOLDER = join(import.meta.dirname, '..', '..', '..', 'lib', 'asyncapi', 'page')

const JAVASCRIPT = 'text/javascript; charset=utf-8'
const CSS = 'text/css; charset=utf-8'

/** Everything comes from the application itself, no script or style is in the page, and no script is made from text. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "font-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'"
].join('; ')

/** A file of the page. */
interface Asset {
  readonly path: string
  readonly type: string
}

/**
 * The folder of `@asyncapi/react-component`.
 * @throws `FST_UPGRADE_ASYNCAPI_PAGE_MISSING` when it is not installed.
 */
export function findComponent(from: string = import.meta.url): string {
  try {
    return dirname(createRequire(from).resolve('@asyncapi/react-component/package.json'))
  } catch {
    throw new MissingComponentError()
  }
}

/** Adds the page and its files to a scope with a prefix. Every route has the same options. */
export function addPage(
  app: FastifyInstance,
  options: RouteShorthandOptions,
  { title, component }: { readonly title: string; readonly component: string }
): void {
  const assets: Readonly<Record<string, Asset>> = {
    ...Object.fromEntries(
      ['page.mjs', 'try-it.mjs', 'sample.mjs'].map(name => [
        name,
        { path: join(FOLDER, name), type: JAVASCRIPT }
      ])
    ),
    'page.css': { path: join(FOLDER, 'page.css'), type: CSS },
    // The build without the parser: that makes functions from text, which the policy forbids.
    'component.js': { path: join(component, 'browser', 'standalone', 'without-parser.js'), type: JAVASCRIPT },
    'component.css': { path: join(component, 'styles', 'default.min.css'), type: CSS }
  }
  // With and without a slash at the end.
  app.get('/', options, async (request, reply) => {
    reply
      .type('text/html; charset=utf-8')
      .header('content-security-policy', CONTENT_SECURITY_POLICY)
      .header('x-content-type-options', 'nosniff')
      .header('referrer-policy', 'no-referrer')
    return html(title, app.prefix, folderOf(request.url))
  })
  for (const [name, { path, type }] of Object.entries(assets)) {
    const { size, mtimeMs } = statSync(path)
    const etag = `"${size.toString(36)}-${mtimeMs.toString(36)}"`
    app.get(`/${name}`, options, async (request, reply) => {
      reply
        .header('etag', etag)
        .header('cache-control', 'no-cache')
        .header('x-content-type-options', 'nosniff')
      if (request.headers['if-none-match'] === etag) return reply.code(304).send()
      return reply.type(type).send(createReadStream(path))
    })
  }
}

/** The folder of the page's files, relative to the page, so that a proxy may serve it under another path. */
function folderOf(url: string): string {
  const [path] = url.split('?', 1)
  return `./${path.slice(path.lastIndexOf('/') + 1)}/`.replace('.//', './')
}

function html(title: string, prefix: string, folder: string): string {
  const at = (file: string): string => escapeHtml(folder + file)
  return `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>${escapeHtml(title)}</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="${at('component.css')}">
    <link rel="stylesheet" href="${at('page.css')}">
  </head>
  <body data-folder="${escapeHtml(folder)}" data-prefix="${escapeHtml(prefix)}">
    <section id="try-it"></section>
    <main id="asyncapi"></main>
    <script type="module" src="${at('page.mjs')}"></script>
  </body>
</html>
`
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, letter => `&#${letter.charCodeAt(0)};`)
}
