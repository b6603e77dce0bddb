import { createReadStream, statSync } from 'node:fs'
import type { FastifyInstance, FastifyReply, RouteShorthandOptions } from 'fastify'

// The pages that this package serves, and their files. The files are for browsers and are not compiled.

const TYPES = {
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8'
} as const

/** A file of a page. */
export interface Asset {
  readonly path: string
  readonly type: keyof typeof TYPES
}

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

/** Adds the files of a page to a scope with a prefix, by their names. Every route has the same options. */
export function addAssets(
  app: FastifyInstance,
  options: RouteShorthandOptions,
  assets: Readonly<Record<string, Asset>>
): void {
  for (const [name, { path, type }] of Object.entries(assets)) {
    const { size, mtimeMs } = statSync(path)
    const etag = `"${size.toString(36)}-${mtimeMs.toString(36)}"`
    app.get(`/${name}`, options, async (request, reply) => {
      reply
        .header('etag', etag)
        .header('cache-control', 'no-cache')
        .header('x-content-type-options', 'nosniff')
      if (request.headers['if-none-match'] === etag) return reply.code(304).send()
      return reply.type(TYPES[type]).send(createReadStream(path))
    })
  }
}

/** Sets the headers of a page. */
export function asPage(reply: FastifyReply): void {
  reply
    .type('text/html; charset=utf-8')
    .header('content-security-policy', CONTENT_SECURITY_POLICY)
    .header('x-content-type-options', 'nosniff')
    .header('referrer-policy', 'no-referrer')
}

/** The folder of the files of a page, relative to the page, so that a proxy may serve it under another path. */
export function folderOf(url: string): string {
  const [path] = url.split('?', 1)
  return `./${path.slice(path.lastIndexOf('/') + 1)}/`.replace('.//', './')
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, letter => `&#${letter.charCodeAt(0)};`)
}
