import type { FastifyInstance } from 'fastify'
import type { Browser, Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { MemoryBroker, MemoryHub } from '../../lib/index.js'
import { websocketConsole } from '../../lib/observe/console/index.js'
import { listen, makeApp, open, withDeadline } from '../helpers/app.js'
import { browserSkip, launchBrowser } from '../helpers/browser.js'
import { ms } from '../helpers/timeout.js'

const INJECTION = '<img src=x onerror="window.injected=1">'

/** Two processes with the console and clients. */
async function start(
  t: Test
): Promise<{ port: number; ports: readonly number[]; close: () => Promise<void> }> {
  const hub = new MemoryHub()
  const ports: number[] = []
  const apps: FastifyInstance[] = []
  for (let n = 0; n < 2; n++) {
    const { app } = await makeApp(t, {
      broker: new MemoryBroker(hub),
      history: topic => (topic === 'kept' ? { size: 10, ttl: 60_000 } : undefined),
      user: request => Reflect.get(Object(request.query), 'user')
    })
    await app.register(websocketConsole, { unprotected: true, interval: 200 })
    app.get('/rooms/:room', { websocket: true }, (socket, request) => {
      void socket.subscribe(Reflect.get(Object(request.params), 'room'), { presence: { user: socket.user } })
    })
    app.get('/slow', { websocket: { maxBufferedAmount: false } }, socket => {
      for (let i = 0; i < 100; i++) socket.send(Buffer.alloc(2 ** 18))
    })
    ports.push(await listen(app))
    apps.push(app)
  }
  const [port = 0] = ports
  return { port, ports, close: async () => void (await Promise.all(apps.map(app => app.close()))) }
}

/** The console, with everything that went wrong in it. */
async function openConsole(
  t: Test,
  browser: Browser,
  port: number,
  width = 1280
): Promise<{ page: Page; problems: string[]; news: (count: number) => Promise<void> }> {
  const context = await browser.newContext({ viewport: { width, height: 900 } })
  // An open page draws its plots.
  t.teardown(() => context.close())
  const page = await context.newPage()
  page.setDefaultTimeout(ms(30_000))
  const problems: string[] = []
  page.on('pageerror', error => problems.push(error.message))
  page.on('console', message => {
    if (message.type() === 'error') problems.push(message.text())
  })
  page.on('request', request => {
    if (!/^(?:http|ws):\/\/127\.0\.0\.1:|^data:/.test(request.url())) problems.push(request.url())
  })
  let frames = 0
  page.on('websocket', socket => socket.on('framereceived', () => frames++))
  await page.goto(`http://127.0.0.1:${port}/console`)
  /** Resolves when the page has received messages. */
  const news = async (count: number): Promise<void> => {
    const last = frames + count
    const wait = async (): Promise<void> => {
      while (frames < last) await new Promise(resolve => setTimeout(resolve, 10))
    }
    await withDeadline(wait(), 30_000, `${count} messages`)
  }
  return { page, problems, news }
}

t.test('the console in a browser', { skip: browserSkip }, async t => {
  const browser = await launchBrowser(t)

  t.test('operators find the client that does not read, and close it with the keyboard', async t => {
    const { port, ports } = await start(t)
    for (let i = 0; i < 20; i++) await open(t, ports[i % 2] ?? 0, `/rooms/lobby?user=user${i}`)
    const slow = await open(t, ports[1] ?? 0, '/slow?user=mallory')
    slow.socket.pause()
    const { page, problems } = await openConsole(t, browser, port)
    const first = page.locator('#list tbody tr').first()
    await first.getByText('mallory').waitFor()
    t.match(await page.textContent('#count'), '22 connections')
    t.match(await first.textContent(), 'MiB')
    t.equal(await page.getAttribute('#list th[data-sort=buffered]', 'aria-sort'), 'descending')
    const button = first.getByRole('button', { name: 'Close the connection of mallory' })
    await button.focus()
    await page.keyboard.press('Enter')
    await page.waitForSelector('dialog[open]')
    t.match(await page.textContent('#question'), 'Close the connection of mallory at /slow?')
    t.equal(await page.evaluate('document.activeElement?.textContent'), 'Cancel', 'Cancel has the focus')
    await page.keyboard.press('Enter')
    await page.waitForSelector('dialog:not([open])', { state: 'attached' })
    await button.focus()
    await page.keyboard.press('Enter')
    await page.keyboard.press('Tab')
    await page.keyboard.press('Enter')
    await page.getByText('1 connection closed.').waitFor()
    slow.socket.resume()
    t.equal(await slow.closed(), '1008 closed by an operator')
    await page.locator('#list').getByText('mallory').waitFor({ state: 'detached' })
    await page.locator('#closes').getByText('1008 policy').waitFor()
    t.strictSame(problems, [], 'nothing breaks the policy, or comes from elsewhere')
  })

  t.test('the list is filtered by a click, and the focus stays while it changes', async t => {
    const { port, ports } = await start(t)
    const clients = []
    for (let i = 0; i < 4; i++)
      clients.push(await open(t, ports[i % 2] ?? 0, `/rooms/lobby?user=user${i % 2}`))
    const { page, problems, news } = await openConsole(t, browser, port)
    await page.locator('#list').getByRole('button', { name: 'user1', exact: true }).first().click()
    await page.getByText('2 connections.').waitFor()
    t.equal(await page.inputValue('[name=user]'), 'user1')
    const all = page.getByRole('button', { name: 'Close all connections of user1' }).first()
    await all.focus()
    await news(5)
    t.equal(await page.evaluate('document.activeElement?.textContent'), 'All')
    await page.keyboard.press('Enter')
    await page.locator('dialog').getByRole('button', { name: 'Close' }).click()
    await page.getByText('2 connections closed.').waitFor()
    t.equal(await clients[1]?.closed(), '1008 closed by an operator')
    await page.getByRole('button', { name: 'Clear' }).click()
    await page.getByText('3 connections.').waitFor()
    await page.fill('[name=route]', '/rooms/:room')
    await page.keyboard.press('Enter')
    await page.getByText('2 connections.').waitFor()
    await page.getByRole('button', { name: 'Open for' }).click()
    await page.waitForSelector('th[data-sort=since][aria-sort=ascending]')
    t.equal(await page.inputValue('[name=sort]'), 'since')
    t.strictSame(problems, [])
  })

  t.test('topics have details, and text of clients stays text', async t => {
    const { port, ports } = await start(t)
    await open(
      t,
      ports[0] ?? 0,
      `/rooms/${encodeURIComponent(INJECTION)}?user=${encodeURIComponent(INJECTION)}`
    )
    await open(t, ports[1] ?? 0, '/rooms/kept?user=ada')
    const { page, problems } = await openConsole(t, browser, port)
    await page.locator('#topics').getByRole('button', { name: INJECTION }).click()
    await page.locator('#topic h3').getByText(INJECTION).waitFor()
    await page.locator('#topic li').getByText('onerror').waitFor()
    await page.locator('#topics').getByRole('button', { name: 'kept' }).click()
    await page.getByText('The history is empty, at offset 0').waitFor()
    t.match(await page.locator('#topic').textContent(), '{"user":"ada"}')
    await page.locator('#topic').getByRole('button', { name: 'Hide' }).click()
    t.equal(await page.locator('#topic').textContent(), '')
    t.equal(await page.evaluate('window.injected'), undefined)
    t.equal(await page.locator('main img').count(), 0)
    t.strictSame(problems, [])
  })

  t.test('on a phone nothing is wider than the screen, and every field has a label', async t => {
    const { port, ports } = await start(t)
    await open(t, ports[1] ?? 0, `/rooms/${'long'.repeat(25)}?user=${'ada'.repeat(60)}`)
    const { page, problems } = await openConsole(t, browser, port, 390)
    await page.locator('#list').getByText('adaada').waitFor()
    await page.locator('#processes tbody tr').nth(1).waitFor()
    t.equal(await page.evaluate('document.documentElement.scrollWidth'), 390)
    const unlabelled = `Array.from(document.querySelectorAll('input, select')).filter(({ labels }) => labels.length !== 1).length`
    t.equal(await page.evaluate(unlabelled), 0)
    const nameless = `Array.from(document.querySelectorAll('button')).filter(({ textContent }) => !textContent).length`
    t.equal(await page.evaluate(nameless), 0)
    t.strictSame(problems, [])
  })

  t.test('plots and tables pause, and a page connects again', async t => {
    const { port, close } = await start(t)
    const { page, news } = await openConsole(t, browser, port)
    await page.locator('#processes tbody tr').nth(1).waitFor()
    await page.waitForFunction("document.querySelector('polyline')?.getAttribute('points')?.includes(' ')")
    t.equal(await page.locator('#plots figure').count(), 6)
    await page.getByRole('button', { name: 'Pause' }).click()
    t.equal(await page.textContent('#status'), 'Paused')
    const before = await page.evaluate("document.querySelector('polyline')?.getAttribute('points')")
    await news(5)
    t.equal(await page.evaluate("document.querySelector('polyline')?.getAttribute('points')"), before)
    await page.getByRole('button', { name: 'Continue' }).click()
    await page.locator('#status').getByText('2 processes').waitFor()
    const scopes = await page.locator('#scope option').allTextContents()
    t.equal(scopes.length, 3)
    await page.selectOption('#scope', { index: 2 })
    t.match(await page.locator('#plots figure').first().textContent(), 'Connections0')
    await close()
    await page.locator('#status.bad').getByText('Disconnected').waitFor()
  })
})
