import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Browser, Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { checkDocument } from '../asyncapi/parser.js'
import { open, withDeadline } from '../helpers/app.js'
import { browserSkip, launchBrowser } from '../helpers/browser.js'
import { start } from '../helpers/program.js'
import { root } from '../helpers/root.js'

/** Runs the example as `npm run start:typed` does, and returns its port. */
async function startBoard(t: Test): Promise<number> {
  const env = { ...process.env, PORT: '0', HOST: '127.0.0.1' }
  const child = start(t, process.execPath, [join(root, 'dist', 'examples', 'typed', 'server.js')], { env })
  child.stderr.pipe(process.stderr)
  const [line]: unknown[] = await withDeadline(once(createInterface(child.stdout), 'line'), 10_000, 'start')
  const [, port] =
    /^Board on http:\/\/127\.0\.0\.1:(\d+), its documentation on http:\/\/127\.0\.0\.1:\1\/asyncapi /.exec(
      String(line)
    ) ?? []
  t.ok(port, String(line))
  return Number(port)
}

/** A visitor of a board, and the messages that it gets. */
async function visit(t: Test, port: number, name: string) {
  const client = await open(t, port, `/boards/${name}`)
  return {
    send: (message: unknown) =>
      client.socket.send(typeof message === 'string' ? message : JSON.stringify(message)),
    next: async (): Promise<Record<string, unknown>> => JSON.parse(String(await client.next()))
  }
}

const note = { text: 'hello', color: 'green', x: 0.5, y: 0.25 }

t.test('visitors see the notes of each other', async t => {
  const port = await startBoard(t)
  const ada = await visit(t, port, 'a')
  t.strictSame(await ada.next(), { type: 'board', notes: [], people: 1 })
  ada.send({ type: 'add', ...note })
  const { note: added } = await ada.next()
  t.match(added, note)
  const { id } = Object(added)
  const bob = await visit(t, port, 'a')
  t.strictSame(await bob.next(), { type: 'board', notes: [added], people: 2 })
  t.strictSame(await ada.next(), { type: 'people', people: 2 })
  bob.send({ type: 'move', id, x: 1, y: 0 })
  t.strictSame(await ada.next(), { type: 'moved', id, x: 1, y: 0 })
  ada.send({ type: 'remove', id })
  t.strictSame(await bob.next(), { type: 'removed', id })
  bob.send({ type: 'move', id, x: 1, y: 0 })
  t.strictSame(await bob.next(), { type: 'refused', reason: 'there is no such note' })
})

t.test('an invalid message gets its reason, and the connection stays open', async t => {
  const port = await startBoard(t)
  const ada = await visit(t, port, 'a')
  await ada.next()
  for (const message of ['no JSON', { type: 'add', ...note, x: 2 }, { type: 'unknown' }, []]) {
    ada.send(message)
    t.match(await ada.next(), { type: 'refused', reason: /./ })
  }
  for (let n = 0; n < 50; n++) {
    ada.send({ type: 'add', ...note })
    t.match(await ada.next(), { type: 'added' })
  }
  ada.send({ type: 'add', ...note })
  t.strictSame(await ada.next(), { type: 'refused', reason: 'a board has at most 50 notes' })
})

t.test('the number of boards is limited, and a board without visitors makes room', async t => {
  const port = await startBoard(t)
  const first = await open(t, port, '/boards/b0')
  for (let n = 1; n < 100; n++) await open(t, port, `/boards/b${n}`)
  const late = await open(t, port, '/boards/late')
  t.equal(await late.closed(), '1013 too many boards')
  first.socket.close()
  // The server may notice that the visitor has left after the visitor.
  const entered = async (): Promise<string> => {
    for (;;) {
      const client = await open(t, port, '/boards/late')
      const message = await Promise.race([client.next(), client.closed()])
      if (!message.startsWith('1013')) return message
    }
  }
  t.match(JSON.parse(await withDeadline(entered(), 10_000, 'room')), { type: 'board' })
})

t.test('its document describes the messages', async t => {
  const port = await startBoard(t)
  const document = JSON.parse(await (await fetch(`http://127.0.0.1:${port}/asyncapi/json`)).text())
  await checkDocument(t, document)
  t.strictSame(Object.keys(document.channels['boards-name'].messages), [
    ...['add', 'move', 'remove', 'board', 'added', 'moved', 'removed', 'people', 'refused']
  ])
})

t.test('the pages in Chromium', { skip: browserSkip }, async t => {
  const browser = await launchBrowser(t)
  const port = await startBoard(t)
  const problems: string[] = []
  const openPage = async (browser: Browser, path: string, width = 1280): Promise<Page> => {
    const page = await (await browser.newContext({ viewport: { width, height: 800 } })).newPage()
    page.on('pageerror', error => problems.push(error.message))
    page.on('console', message => message.type() === 'error' && problems.push(message.text()))
    await page.goto(`http://127.0.0.1:${port}${path}`)
    return page
  }
  const ada = await openPage(browser, '/')
  await ada.getByText('only you').waitFor()
  const bob = await openPage(browser, '/boards/demo', 390)
  await ada.getByText('2 people').waitFor()
  t.equal(await bob.evaluate('document.scrollingElement.scrollWidth'), 390)
  await ada.getByLabel('Text').fill('<b>milk</b>')
  await ada.getByLabel('pink').check()
  await ada.getByRole('button', { name: 'Add' }).click()
  const theirs = bob.locator('.note.pink', { hasText: '<b>milk</b>' })
  await theirs.waitFor()

  const own = ada.locator('.note')
  await own.focus()
  await ada.keyboard.press('ArrowRight')
  const box = await own.boundingBox()
  if (box === null) throw new Error('the note has no place')
  await ada.mouse.move(box.x + 20, box.y + 20)
  await ada.mouse.down()
  await ada.mouse.move(640, 400, { steps: 5 })
  await ada.mouse.up()
  await bob.waitForFunction(`document.querySelector('.note').style.left === '50%'`)
  await theirs.getByRole('button', { name: 'Remove' }).click()
  await own.waitFor({ state: 'detached' })
  await ada.getByText('Write a note').waitFor()

  await ada.getByRole('link', { name: 'API' }).click()
  await ada.getByRole('button', { name: 'Connect' }).click()
  await ada.locator('.received', { hasText: '"board"' }).waitFor()
  await ada.getByRole('button', { name: 'Send' }).click()
  await bob.locator('.note.green', { hasText: 'hello' }).waitFor()
  t.strictSame(problems, [])
})
