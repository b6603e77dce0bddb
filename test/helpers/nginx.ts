import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import { CERTIFICATE, KEY } from '../socket/certificate.js'
import { freePort, program, start } from './program.js'
import { root } from './root.js'
import { ms, withDeadline } from './timeout.js'

const { path: NGINX, skip } = program('nginx', '/usr/sbin/nginx')

/** The reason to skip the tests behind nginx, for tap's `skip` option; false when they run. */
export const nginxSkip: string | false = skip

const PAGE = join(root, 'docs', 'guides', 'deploying.md')

/** Differences from the configuration in the documentation. */
export interface NginxOptions {
  /** The ports of the applications, or the paths of their Unix sockets. */
  readonly backends: readonly (number | string)[]
  readonly tls?: boolean
  /** The lines to leave out, such as `proxy_set_header Upgrade`. */
  readonly without?: readonly string[]
  readonly readTimeout?: number
  /** The HTTP version of requests to the applications; nginx used 1.0 by default before 1.29.7. */
  readonly httpVersion?: string
}

/** Replaces a part that must occur once, so that a changed page cannot leave the test with another configuration. */
function replaceOnce(text: string, from: string, to: string): string {
  const parts = text.split(from)
  if (parts.length !== 2) throw new Error(`${JSON.stringify(from)} is ${parts.length - 1} times in ${PAGE}`)
  return parts.join(to)
}

/** The configuration of the documentation, with ports and paths filled in. */
async function configuration(folder: string, port: number, options: NginxOptions): Promise<string> {
  const { backends, tls = false, without = [], readTimeout, httpVersion = '1.1' } = options
  const [, block] = /^```nginx\n([\s\S]*?)^```$/m.exec(await readFile(PAGE, 'utf8')) ?? []
  if (block === undefined) throw new Error(`no nginx configuration in ${PAGE}`)
  const pem = '/etc/ssl/app.example.com.pem;'
  const key = '/etc/ssl/app.example.com.key;'
  let text = replaceOnce(block, 'listen 443 ssl;', `listen 127.0.0.1:${port}${tls ? ' ssl' : ''};`)
  text = replaceOnce(text, pem, `${join(folder, 'certificate.pem')};`)
  text = replaceOnce(text, key, `${join(folder, 'key.pem')};`)
  const [first, ...others] = backends.map(
    backend => `server ${typeof backend === 'string' ? 'unix:' : '127.0.0.1:'}${backend};`
  )
  text = replaceOnce(text, 'server 127.0.0.1:3000;', first ?? '')
  text = replaceOnce(text, 'server 127.0.0.1:3001;', others.join(' '))
  text = replaceOnce(text, 'proxy_http_version 1.1;', `proxy_http_version ${httpVersion};`)
  for (const line of without) {
    const name = new RegExp(`^ *${line}\\b.*\n`, 'm')
    if (!name.test(text)) throw new Error(`no line ${line} in ${PAGE}`)
    text = text.replace(name, '')
  }
  if (readTimeout === undefined) return text
  return replaceOnce(text, 'proxy_read_timeout 60s;', `proxy_read_timeout ${readTimeout}ms;`)
}

function around(folder: string, text: string): string {
  const paths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    name => `  ${name}_temp_path ${join(folder, name)};`
  )
  return [
    'daemon off;',
    'master_process off;',
    `pid ${join(folder, 'nginx.pid')};`,
    'error_log stderr notice;',
    'events { worker_connections 64; }',
    'http {',
    '  access_log off;',
    ...paths,
    text,
    '}'
  ].join('\n')
}

/** Starts nginx with the configuration of the documentation, and returns its port. */
export async function startNginx(t: Test, options: NginxOptions): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'nginx-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'certificate.pem'), CERTIFICATE)
  await writeFile(join(folder, 'key.pem'), KEY)
  const port = await freePort()
  const file = join(folder, 'nginx.conf')
  await writeFile(file, around(folder, await configuration(folder, port, options)))
  const child = start(t, NGINX, ['-e', 'stderr', '-p', folder, '-c', file])
  const said: string[] = []
  const wait = async (): Promise<number> => {
    for await (const line of createInterface({ input: child.stderr })) {
      said.push(line)
      // It listens by then.
      if (/using the "\w+" event method/.test(line)) return port
    }
    throw new Error(`nginx does not start: ${said.join('\n')}`)
  }
  await withDeadline(wait(), 10_000, 'nginx')
  child.stderr.resume()
  return port
}

/** A timeout of nginx, scaled like those of the tests. */
export const READ_TIMEOUT: number = ms(1000)
