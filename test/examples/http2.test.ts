import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { makeCertificate } from '../../examples/http2/certificate.js'
import { browserSkip, launchBrowser } from '../helpers/browser.js'
import { Session } from '../helpers/http2.js'
import { root } from '../helpers/root.js'
import { startChat } from './chat.js'

const SERVER = join(root, 'dist', 'examples', 'http2', 'server.js')

/** Passes bytes on to a port, and counts the connections that have sent any. */
async function startCounter(t: Test, port: number): Promise<{ readonly port: number; count(): number }> {
  let connections = 0
  const server = createServer(socket => {
    const onward = connect(port, '127.0.0.1')
    socket.once('data', () => connections++)
    socket.pipe(onward).pipe(socket)
    for (const [near, far] of [
      [socket, onward],
      [onward, socket]
    ]) {
      near?.on('error', () => {})
      near?.on('close', () => far?.destroy())
    }
    t.teardown(() => socket.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const { port: own } = server.address() as AddressInfo
  return { port: own, count: () => connections }
}

t.test('the certificate is for localhost, signed by its own key, and valid now', t => {
  const { key, cert } = makeCertificate()
  const certificate = new X509Certificate(cert)
  t.equal(certificate.checkHost('localhost'), 'localhost')
  t.equal(certificate.checkIP('127.0.0.1'), '127.0.0.1')
  t.equal(certificate.checkIP('::1'), '::1')
  t.ok(certificate.verify(certificate.publicKey))
  t.ok(Date.parse(certificate.validFrom) < Date.now() && Date.now() < Date.parse(certificate.validTo))
  t.not(makeCertificate().key, key)
  t.end()
})

t.test(
  'npm run start:http2: the page and its WebSocket in Chromium on one TCP connection',
  {
    skip: browserSkip
  },
  async t => {
    const chat = await startChat(t, { server: SERVER })
    const counter = await startCounter(t, chat.port)
    // Else Chromium connects once to find that the certificate is not trusted, and then again.
    const browser = await launchBrowser(t, ['--ignore-certificate-errors'])
    const context = await browser.newContext({ ignoreHTTPSErrors: true })
    t.teardown(() => context.close())
    const page = await context.newPage()
    page.on('pageerror', error => t.fail(error.message))
    await enter(page, counter.port, 'Ada')
    await page.getByLabel('Message', { exact: true }).fill('Hello over HTTP/2')
    await page.keyboard.press('Enter')
    await page.locator('#log .message', { hasText: 'Hello over HTTP/2' }).locator('time').waitFor()
    t.equal(await page.evaluate('performance.getEntriesByType("navigation")[0].nextHopProtocol'), 'h2')
    t.equal(counter.count(), 1)
  }
)

async function enter(page: Page, port: number, name: string): Promise<void> {
  await page.goto(`https://127.0.0.1:${port}/rooms/test-room`)
  await page.getByLabel('Name').fill(name)
  await page.getByRole('button', { name: 'Join' }).click()
  await page.getByText('connected, chat.v2').waitFor()
}

t.test('npm run start:http2 announces WebSockets over HTTP/2', async t => {
  const chat = await startChat(t, { server: SERVER })
  const session = await Session.open(t, chat.port, { host: '127.0.0.1' })
  t.equal(session.isAnnounced, true)
  const client = await session.open('/rooms/a?name=b', { 'sec-websocket-protocol': 'chat.v2' })
  t.match(await client.text(), /"type":"welcome"/)
})
