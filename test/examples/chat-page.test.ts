import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Browser, Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { open, withDeadline } from '../helpers/app.js'
import { browserSkip, launchBrowser } from '../helpers/browser.js'
import { startChat } from './chat.js'

interface Visitor {
  readonly name: string
  readonly room: string
  readonly width?: number
  /** The value of `Math.random`, which determines the delay before a connection. */
  readonly random?: number
}

/** A page that has joined a room. */
async function visit(t: Test, browser: Browser, port: number, visitor: Visitor): Promise<Page> {
  const { name, room, width = 1280, random } = visitor
  const context = await browser.newContext({ viewport: { width, height: 844 } })
  t.teardown(() => context.close())
  const page = await context.newPage()
  page.on('pageerror', error => t.fail(error.message))
  if (random !== undefined) await page.addInitScript(`Math.random = () => ${random}`)
  await page.goto(`http://127.0.0.1:${port}/rooms/${room}`)
  await page.getByLabel('Name').fill(name)
  await page.getByRole('button', { name: 'Join' }).click()
  await page.getByText('connected, chat.v2').waitFor()
  return page
}

/** A way to a port that can be cut, and silenced in one direction. */
interface Link {
  readonly port: number
  /** The answers of the server do not arrive any more. */
  muffle(): void
  /** Cuts the connections, and each new one until `restore`. */
  cut(): void
  restore(): void
}

async function startLink(t: Test, port: number): Promise<Link> {
  const pairs = new Set<readonly [Socket, Socket]>()
  let isCut = false
  const server = createServer(near => {
    near.on('error', () => {})
    if (isCut) {
      near.destroy()
      return
    }
    const far = connect(port, '127.0.0.1').on('error', () => {})
    const pair = [near, far] as const
    pairs.add(pair)
    near.pipe(far).pipe(near)
    near.on('close', () => far.destroy())
    far.on('close', () => {
      near.destroy()
      pairs.delete(pair)
    })
  })
  const cut = (): void => {
    isCut = true
    for (const [near] of pairs) near.destroy()
  }
  t.teardown(() => {
    cut()
    server.close()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return {
    port: address.port,
    cut,
    muffle: () => {
      for (const [near, far] of pairs) far.unpipe(near).resume()
    },
    restore: () => {
      isCut = false
    }
  }
}

/** Types and sends a message. */
async function type(page: Page, text: string): Promise<void> {
  await page.getByLabel('Message', { exact: true }).fill(text)
  await page.keyboard.press('Enter')
}

const ownName = (page: Page) => page.locator('#members .own').textContent()
const message = (page: Page, text: string) => page.locator('#log .message', { hasText: text })

t.test('the page works in Chromium', { skip: browserSkip }, async t => {
  const browser = await launchBrowser(t)
  const { port } = await startChat(t)
  await t.test('two pages chat', async t => {
    const problems: string[] = []
    const enter = async (name: string, protocol: string): Promise<Page> => {
      const page = await (await browser.newContext()).newPage()
      page.on('pageerror', error => problems.push(error.message))
      page.on('console', message => message.type() === 'error' && problems.push(message.text()))
      await page.goto(`http://127.0.0.1:${port}/rooms/test-room`)
      await page.getByLabel('Name').fill(name)
      await page.getByLabel('Protocol').selectOption(protocol)
      await page.getByRole('button', { name: 'Join' }).click()
      await page.getByText(`connected, ${protocol}`).waitFor()
      return page
    }
    const speak = async (page: Page, text: string): Promise<void> => {
      await page.getByLabel('Message', { exact: true }).fill(text)
      await page.getByRole('button', { name: 'Send' }).click()
    }
    const ada = await enter('Ada', 'chat.v2')
    const bob = await enter('Bob', 'chat.v1')
    await ada.getByText('Bob joined').waitFor()
    await speak(ada, 'Hello <b>Bob</b>!')
    await bob.getByText('Hello <b>Bob</b>!').waitFor()
    await speak(bob, 'Grüß dich, Ada 🐎')
    await ada.getByText('Grüß dich, Ada 🐎').waitFor()
    for (const page of [ada, bob]) {
      t.strictSame(await page.locator('#members li').allTextContents(), ['Ada', 'Bob'])
      t.equal(await page.locator('#log b').count(), 2, 'messages are not parsed as HTML')
    }
    for (const page of [ada, bob]) {
      await page.locator('#log .unsent').waitFor({ state: 'detached' })
      const times = page.locator('#log .message time[datetime]')
      t.equal(await times.count(), await page.locator('#log .message').count(), 'each message has a time')
      t.match((await times.allTextContents()).join(' '), /^\d\d:\d\d/)
    }
    const { SCREENSHOTS } = process.env
    if (SCREENSHOTS) await ada.screenshot({ path: join(SCREENSHOTS, 'chat.png') })
    await bob.getByRole('button', { name: 'Leave' }).click()
    await ada.getByText('Bob left').waitFor()
    await bob.getByText('Join a room').waitFor()
    await bob.getByRole('button', { name: 'Join' }).click()
    await bob.getByText('Welcome back, Bob').waitFor()
    t.strictSame(problems, [])
  })

  await t.test('people keep their names and unsent messages when the server restarts', async t => {
    const chat = await startChat(t)
    const first = await visit(t, browser, chat.port, { name: 'Bob', room: 'restart', random: 1 })
    const second = await visit(t, browser, chat.port, { name: 'Bob', room: 'restart', random: 0.1 })
    await second.getByText('Bob is the name of another person').waitFor()
    await first.getByText('Bob 2 joined').waitFor()
    t.equal(await ownName(first), 'Bob')
    t.equal(await ownName(second), 'Bob 2')

    const exited = once(chat.process, 'exit')
    chat.process.kill('SIGTERM')
    await withDeadline(exited, 10_000, 'exit')
    await first.locator('#offline').waitFor()
    await type(first, 'written while the server was away')
    const line = message(first, 'written while the server was away')
    await line.getByText('waiting').waitFor()

    // The second client has to be in the room when the first one sends, so the first one cannot reach the server until then.
    await first.evaluate(`
      window.WebSocket = new Proxy(WebSocket, {
        construct: (Socket, [url, protocols]) =>
          new Socket(window.isHeld ? 'ws://127.0.0.1:1/' : url, protocols)
      })
      window.isHeld = true
    `)
    await startChat(t, { port: chat.port })
    await second.getByText('connected, chat.v2').waitFor()
    await first.evaluate('window.isHeld = false')
    await first.getByText('connected, chat.v2').waitFor()
    await message(second, 'written while the server was away').waitFor()
    await line.locator('time').waitFor()
    await first.locator('#offline').waitFor({ state: 'hidden' })
    t.equal(await line.count(), 1)
    t.equal(await message(second, 'written while').count(), 1)
    for (const page of [first, second]) {
      await page.getByText('Some messages may be missing').waitFor()
      await page.getByText('2 here').waitFor()
      t.strictSame((await page.locator('#members li').allTextContents()).sort(), ['Bob', 'Bob 2'])
    }
    t.equal(await ownName(first), 'Bob')
    t.equal(await ownName(second), 'Bob 2')
  })

  await t.test('a page that was cut off shows what it has missed, once and in order', async t => {
    const link = await startLink(t, port)
    const page = await visit(t, browser, link.port, { name: 'Ada', room: 'cut', random: 0.1 })
    const bob = await open(t, port, '/rooms/cut?name=Bob', { protocols: ['chat.v2'] })
    const say = async (text: string): Promise<void> => {
      bob.socket.send(JSON.stringify({ type: 'message', text }))
      while (JSON.parse(await bob.next()).text !== text);
    }
    await say('before')
    await message(page, 'before').waitFor()
    link.cut()
    await page.locator('#offline').waitFor()
    for (const text of ['one', 'two', 'three']) await say(text)
    link.restore()
    await page.getByText('missed 3 messages').waitFor()
    await page.locator('[data-state=open]').waitFor()
    await say('after')
    await message(page, 'after').waitFor()
    const texts = async (): Promise<string[]> => page.locator('#log .message .text').allTextContents()
    t.strictSame(await texts(), ['before', 'one', 'two', 'three', 'after'])
    const lines = await page.locator('#log li').allTextContents()
    const notice = lines.findIndex(line => line.includes('missed 3 messages'))
    t.match(lines[notice + 1], 'one', 'the note is before the messages')

    link.cut()
    await page.locator('#offline').waitFor()
    const many = Array.from({ length: 51 }, (_, n) => `of many: ${n}`)
    for (const text of many) await say(text)
    link.restore()
    await page.getByText('Some messages may be missing').waitFor()
    await page.locator('[data-state=open]').waitFor()
    t.strictSame((await texts()).slice(5), many.slice(1))

    const late = await visit(t, browser, port, { name: 'Eve', room: 'cut' })
    t.strictSame(await late.locator('#log .message .text').allTextContents(), many.slice(1))
    t.equal(
      await late
        .locator('#log')
        .getByText(/missed|missing/)
        .count(),
      0
    )
  })

  await t.test('messages that are on the page are not shown again in another epoch', async t => {
    const link = await startLink(t, port)
    const page = await visit(t, browser, link.port, { name: 'Ada', room: 'epoch', random: 0.1 })
    for (const text of ['one', 'two']) {
      await type(page, text)
      await message(page, text).locator('time').waitFor()
    }
    await page.evaluate(`
      window.WebSocket = new Proxy(WebSocket, {
        construct: (Socket, [url, protocols]) => new Socket(String(url).replace(/epoch=[^&]*/, 'epoch=another'), protocols)
      })
    `)
    link.cut()
    await page.locator('#offline').waitFor()
    link.restore()
    await page.getByText('Some messages may be missing').waitFor()
    await type(page, 'three')
    await message(page, 'three').locator('time').waitFor()
    const texts = await page.locator('#log .message .text').allTextContents()
    t.strictSame(texts, ['one', 'two', 'three'])
  })

  await t.test('a message whose echo was cut off is not shown twice, and not counted', async t => {
    const link = await startLink(t, port)
    const page = await visit(t, browser, link.port, { name: 'Ada', room: 'echo', random: 0.1 })
    const bob = await open(t, port, '/rooms/echo?name=Bob', { protocols: ['chat.v1'] })
    link.muffle()
    await type(page, 'did it arrive?')
    while ((await bob.next()) !== 'Ada: did it arrive?');
    link.cut()
    await message(page, 'did it arrive?').getByText('perhaps not delivered').waitFor()
    link.restore()
    await page.getByText('missed 0 messages').waitFor()
    await message(page, 'did it arrive?').locator('time').waitFor()
    t.equal(await message(page, 'did it arrive?').count(), 1)
    t.equal(await page.locator('#log .lost').count(), 0)
  })

  await t.test('the page shows the time at which an earlier message was sent', async t => {
    const page = await visit(t, browser, port, { name: 'Ada', room: 'times' })
    await type(page, 'hello')
    await message(page, 'hello').locator('time').waitFor()
    const sent = await message(page, 'hello').locator('time').getAttribute('datetime')
    const context = await browser.newContext({ timezoneId: 'UTC' })
    t.teardown(() => context.close())
    const later = await context.newPage()
    await later.clock.setFixedTime(Date.parse(sent ?? '') + 86_400_000)
    await later.goto(`http://127.0.0.1:${port}/rooms/times`)
    await later.getByLabel('Name').fill('Bob')
    await later.getByRole('button', { name: 'Join' }).click()
    const time = message(later, 'hello').locator('time')
    t.equal(await time.getAttribute('datetime'), sent)
    t.match(await time.textContent(), /[A-Z][a-z]{2} \d+.*\d\d:\d\d/, 'with the day')
  })

  await t.test(
    'a reload joins the room again under the same name, until the user leaves',
    { skip: browserSkip },
    async t => {
      await visit(t, browser, port, { name: 'Bob', room: 'reload' })
      const page = await visit(t, browser, port, { name: 'Bob', room: 'reload' })
      for (const again of [() => page.reload(), () => page.goto(`http://127.0.0.1:${port}/rooms/reload`)]) {
        await again()
        await page.getByText('connected, chat.v2').waitFor()
        await page.getByText('2 here').waitFor()
        t.equal(await page.locator('#join').isVisible(), false)
        t.equal(await ownName(page), 'Bob 2')
      }
      // Another tab of the same browser is another person.
      const tab = await page.context().newPage()
      await tab.goto(`http://127.0.0.1:${port}/rooms/reload`)
      await tab.getByText('3 here').waitFor()
      t.equal(await ownName(tab), 'Bob 3')
      await page.getByRole('button', { name: 'Leave' }).click()
      await page.reload()
      await page.getByText('Join a room').waitFor()
      t.equal(await page.getByLabel('Name').inputValue(), 'Bob')
    }
  )

  await t.test('a lost message is marked, and a refusal is final', async t => {
    const context = await browser.newContext()
    const page = await context.newPage()
    let closing: number | undefined
    let handshakes = 0
    await page.routeWebSocket(/\/rooms\//, route => {
      handshakes++
      const server = route.connectToServer()
      route.onMessage(data => {
        if (closing === undefined) return server.send(data)
        void route.close({ code: closing, reason: 'as the test wants' })
        void server.close()
        closing = undefined
      })
    })
    await page.goto(`http://127.0.0.1:${port}/rooms/lost`)
    await page.getByLabel('Name').fill('Ada')
    await page.getByRole('button', { name: 'Join' }).click()
    await page.locator('[data-state=open]').waitFor()
    closing = 1012
    await type(page, 'on its way')
    await message(page, 'on its way').getByText('perhaps not delivered').waitFor()
    await page.locator('[data-state=open]').waitFor()
    t.equal(handshakes, 2)
    await message(page, 'on its way').getByRole('button', { name: 'Send again' }).click()
    await message(page, 'on its way').locator('time').waitFor()
    t.equal(await message(page, 'on its way').count(), 1)
    closing = 4401
    await type(page, 'x')
    await page.getByText('The server closed the connection: as the test wants').waitFor()
    t.equal(await page.locator('#join').isVisible(), true)
    t.equal(handshakes, 2)
  })

  await t.test('the page shows the messages on the wire, and copies the link of its room', async t => {
    const page = await visit(t, browser, port, { name: 'Ada', room: 'wire' })
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write'])
    await type(page, 'hello')
    await message(page, 'hello').locator('time').waitFor()
    t.equal(await page.locator('#frames li').count(), 0, 'closed')
    await page.getByText('On the wire').click()
    await page.locator('#frames .sent').waitFor()
    const [sent, received = ''] = (await page.locator('#frames li').allTextContents()).slice(-2)
    t.equal(sent, '{"type":"message","text":"hello"}')
    t.match(JSON.parse(received), { type: 'message', name: 'Ada', text: 'hello', offset: 1 })
    await page.getByRole('button', { name: 'Share' }).click()
    const link = `http://127.0.0.1:${port}/rooms/wire`
    await page.waitForFunction(`navigator.clipboard.readText().then(text => text === '${link}')`)
  })

  await t.test('with sixteen members on a phone only whole rows are visible', async t => {
    for (let n = 2; n <= 16; n++)
      await open(t, port, `/rooms/phone?name=Somebody%20${n}`, { protocols: ['chat.v1'] })
    const page = await visit(t, browser, port, { name: 'Ada', room: 'phone', width: 390 })
    await page.getByText('16 here').waitFor()
    // Runs in the page: the number of rows of members that a box cuts through, and whether the page is wider than the phone.
    const fit = `(() => {
    const box = document.querySelector('#who').getBoundingClientRect()
    const shown = [...document.querySelectorAll('#members li')].filter(row => row.checkVisibility())
      const rows = shown.map(row => row.getBoundingClientRect())
    const bottom = Math.min(box.bottom, document.querySelector('#members').getBoundingClientRect().bottom)
    return {
      seen: rows.filter(row => row.top < bottom).length,
      cut: rows.filter(row => row.top < bottom - 1 && row.bottom > bottom + 1).length,
      wide: document.scrollingElement.scrollWidth > innerWidth
    }
  })()`
    t.strictSame(await page.evaluate(fit), { seen: 0, cut: 0, wide: false }, 'closed')
    await page.getByText('16 here').click()
    t.strictSame(await page.evaluate(fit), { seen: 16, cut: 0, wide: false }, 'open')
    for (let n = 17; n <= 20; n++)
      await open(t, port, `/rooms/phone?name=Somebody%20${n}`, { protocols: ['chat.v1'] })
    await page.getByText('20 here').waitFor()
    t.strictSame(await page.evaluate(fit), { seen: 16, cut: 0, wide: false }, 'more than fit')
    await page.setViewportSize({ width: 390, height: 500 })
    t.strictSame(await page.evaluate(fit), { seen: 6, cut: 0, wide: false }, 'with a keyboard')
  })
})
