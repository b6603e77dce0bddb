import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { FastifyInstance, RouteShorthandOptions } from 'fastify'
import { type Asset, addAssets, asPage, escapeHtml, folderOf } from '../fastify/web-page.js'
import { MissingComponentError } from './error.js'

/** The script and the style sheet of the page. They are not compiled. */
const FOLDER = join(import.meta.dirname, '..', '..', '..', 'lib', 'asyncapi', 'page')

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
      ['page.mjs', 'try-it.mjs', 'sample.mjs'].map(name => [name, { path: join(FOLDER, name), type: 'js' }])
    ),
    'page.css': { path: join(FOLDER, 'page.css'), type: 'css' },
    // The build without the parser: that makes functions from text, which the policy forbids.
    'component.js': { path: join(component, 'browser', 'standalone', 'without-parser.js'), type: 'js' },
    'component.css': { path: join(component, 'styles', 'default.min.css'), type: 'css' }
  }
  // With and without a slash at the end.
  app.get('/', options, async (request, reply) => {
    asPage(reply)
    return html(title, app.prefix, folderOf(request.url))
  })
  addAssets(app, options, assets)
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
