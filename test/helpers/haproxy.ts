import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { CERTIFICATE, KEY } from '../socket/certificate.js'
import { freePort, program, start } from './program.js'
import { root } from './root.js'
import { withDeadline } from './timeout.js'

const { path: HAPROXY, skip } = program('haproxy', '/usr/sbin/haproxy')

/** Why the tests behind haproxy are skipped, for tap's `skip` option; false where they run. */
export const haproxySkip: string | false = skip

const PAGE = join(root, 'docs', 'guides', 'deploying.md')

/** Starts haproxy with the configuration of the documentation in front of a port, and resolves to its own. */
export async function startHaproxy(
  t: Test,
  backend: number,
  { http1 = false }: { readonly http1?: boolean } = {}
): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'haproxy-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const port = await freePort()
  const [, block] = /^```haproxy\n([\s\S]*?)^```$/m.exec(await readFile(PAGE, 'utf8')) ?? []
  if (block === undefined) throw new Error(`no haproxy configuration in ${PAGE}`)
  const pem = join(folder, 'certificate.pem')
  await writeFile(pem, CERTIFICATE + KEY)
  const text = block
    .replace(':443', `127.0.0.1:${port}`)
    .replace('/etc/ssl/app.example.com.pem', pem)
    .replace('127.0.0.1:3000', `127.0.0.1:${backend}`)
    .replace(' proto h2\n', http1 ? '\n' : ' proto h2\n')
  const file = join(folder, 'haproxy.cfg')
  await writeFile(file, text)
  const child = start(t, HAPROXY, ['-db', '-f', file])
  const said: string[] = []
  child.stderr.on('data', data => said.push(String(data)))
  const wait = async (): Promise<void> => {
    while (!(await accepts(port))) {
      if (child.exitCode !== null) throw new Error(`haproxy does not start: ${said.join('')}`)
      await new Promise(resolve => setTimeout(resolve, 20))
    }
  }
  await withDeadline(wait(), 10_000, 'haproxy')
  return port
}

function accepts(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}
