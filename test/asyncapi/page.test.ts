import { join } from 'node:path'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyInstance } from 'fastify'
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod'
import type { Browser, Page } from 'playwright-core'
import t from 'tap'
import { Type } from 'typebox'
import { z } from 'zod'
import { listen } from '../helpers/app.js'
import { browserSkip, launchBrowser } from '../helpers/browser.js'
import { documentedApp } from './documented-app.js'
import { checkDocument } from './parser.js'

const INJECTION = '<script>window.injected = 1</script><img src="x" onerror="window.injected = 2">'

const user = {
  $id: 'User',
  type: 'object',
  properties: {
    name: { type: 'string', description: INJECTION },
    friends: { type: 'array', items: { $ref: 'User#' } }
  },
  required: ['name']
}

function declare(app: FastifyInstance): void {
  app.addSchema(user)
  app.withTypeProvider<TypeBoxTypeProvider>().get(
    '/chat/:room',
    {
      websocket: { subprotocol: ['chat.v2', 'chat'] },
      schema: {
        summary: 'The chat of a room',
        description: `People **talk**. ${INJECTION}`,
        tags: [INJECTION],
        params: Type.Object({ room: Type.String({ examples: ['lobby'] }) }),
        querystring: Type.Object({ name: Type.Optional(Type.String()), color: Type.Enum(['red', 'green']) }),
        receive: Type.Union([
          Type.Object({ type: Type.Literal('say'), text: Type.String({ maxLength: 500 }) }),
          Type.Object({ type: Type.Literal('leave') }, { title: INJECTION })
        ]),
        send: Type.Object({ type: Type.Literal('said'), from: Type.String(), text: Type.String() })
      }
    },
    async (socket, { params, query }) => {
      for await (const message of socket) {
        if (message.type === 'leave') return socket.close(4000, 'good bye')
        socket.send({
          type: 'said',
          from: `${query.name}, ${query.color}, ${params.room}`,
          text: message.text
        })
      }
    }
  )
  app.get('/echo', { websocket: true }, socket => {
    socket.on('message', (data, isBinary) =>
      socket.send(data, { binary: isBinary || String(data) === 'bytes' })
    )
  })
  app.get('/refused', { websocket: true, onRequest: async () => Promise.reject(new Error('no')) }, () => {})
  app.get('/files/*', { websocket: true, schema: { send: { $ref: 'User#' } } }, (socket, request) => {
    socket.send({ name: Reflect.get(Object(request.params), '*') })
  })
}

/** A page of the documentation, with everything that went wrong in it. */
async function openPage(
  browser: Browser,
  url: string,
  width = 1280
): Promise<{ page: Page; problems: string[] }> {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: 'dark' })
  const page = await context.newPage()
  const problems: string[] = []
  page.on('pageerror', error => problems.push(error.message))
  page.on('request', request => {
    if (!/^(?:http|ws):\/\/127\.0\.0\.1:|^data:/.test(request.url())) problems.push(request.url())
  })
  await page.goto(url)
  await page.locator('.aui-root').waitFor()
  return { page, problems }
}

const status = (page: Page, text: string | RegExp) =>
  page.locator('#try-it .status', { hasText: text }).waitFor()
const entry = (page: Page, kind: string, text: string) =>
  page.locator(`#try-it .${kind}`, { hasText: text }).waitFor()

t.test('the page in Chromium', { skip: browserSkip }, async t => {
  const browser = await launchBrowser(t)
  const app = await documentedApp(t, declare, {
    routePrefix: '/docs',
    info: { title: `Chat ${INJECTION}`, version: '1.0.0', description: INJECTION }
  })
  const port = await listen(app)
  const url = `http://127.0.0.1:${port}/docs`

  await t.test('it shows the channels, and text of the application runs no script', async t => {
    const { page, problems } = await openPage(browser, url)
    for (const address of ['/chat/{room}', '/echo', '/files/{wildcard}'])
      t.ok((await page.locator('#asyncapi').getByText(address, { exact: true }).count()) > 0, address)
    await page.getByText('People talk.').first().waitFor()
    t.equal(await page.evaluate('window.injected'), undefined)
    t.match(await page.title(), 'Chat <script>')
    // A script that got into the page would not run, either.
    const violated = page.waitForEvent('console', message =>
      message.text().includes('Content Security Policy')
    )
    await page.evaluate(
      `document.body.append(Object.assign(document.createElement('script'), { text: 'injected = 3' }))`
    )
    await violated
    t.equal(await page.evaluate('window.injected'), undefined)
    const refused = `new Promise(resolve => addEventListener('securitypolicyviolation', event => resolve(event.effectiveDirective)))`
    const directive = page.evaluate(refused)
    await page.evaluate(`setTimeout(() => { try { eval('injected = 4') } catch {} })`)
    t.equal(await directive, 'script-src')
    t.strictSame(problems, [])
    const { SCREENSHOTS } = process.env
    if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, 'asyncapi.png') })
  })

  await t.test(
    'people connect with a subprotocol, send an example, and see the answer and the close code',
    async t => {
      const { page, problems } = await openPage(browser, `${url}/`)
      await page.getByLabel('Subprotocol').selectOption('chat')
      await page.getByLabel('name', { exact: true }).fill('Ada')
      await page.getByLabel('color').selectOption('green')
      await page
        .getByText(`ws://127.0.0.1:${port}/chat/lobby?name=Ada&color=green`, { exact: true })
        .waitFor()
      t.ok(await page.getByRole('button', { name: 'Send' }).isDisabled())
      await page.getByRole('button', { name: 'Connect' }).click()
      await status(page, 'connected, chat')
      t.strictSame(JSON.parse(await page.getByLabel('Content').inputValue()), { type: 'say', text: 'text' })
      await page.getByRole('button', { name: 'Send' }).click()
      await entry(page, 'sent', '"say"')
      await entry(page, 'received', '{"type":"said","from":"Ada, green, lobby","text":"text"}')
      await page.getByLabel('Message').selectOption('leave')
      await page.getByRole('button', { name: 'Send' }).click()
      await status(page, 'closed with 4000: good bye')
      await entry(page, 'event', 'closed with 4000: good bye')
      await page.getByRole('button', { name: 'Connect' }).click()
      await status(page, 'connected, chat')
      await page.getByLabel('Content').fill('{}')
      await page.getByRole('button', { name: 'Send' }).click()
      await status(page, 'closed with 1007')
      t.strictSame(problems, [])
    }
  )

  await t.test('channels without schemas, channels that only send, and refusals', async t => {
    const { page, problems } = await openPage(browser, url)
    const choose = (label: string) => page.getByLabel('Channel').selectOption({ label })
    await choose('/echo')
    await page.getByRole('button', { name: 'Connect' }).click()
    await status(page, 'connected')
    for (const [text, answer] of [
      ['hello', 'hello'],
      ['bytes', '5 bytes: 62 79 74 65 73']
    ]) {
      await page.getByLabel('Content').fill(text ?? '')
      await page.getByRole('button', { name: 'Send' }).click()
      await entry(page, 'received', answer ?? '')
    }
    await page.getByRole('button', { name: 'Disconnect' }).click()
    await status(page, 'closed with 1000')
    await choose('/files/{wildcard}')
    t.notOk(await page.getByRole('button', { name: 'Send' }).isVisible())
    await page.getByRole('textbox', { name: 'wildcard' }).fill('a/b c')
    await page.getByRole('button', { name: 'Connect' }).click()
    await entry(page, 'received', '{"name":"a/b c"}')
    await page.getByRole('button', { name: 'Disconnect' }).click()
    await status(page, 'closed with 1000')
    await choose('/refused')
    await page.getByRole('button', { name: 'Connect' }).click()
    await status(page, 'refused by the server')
    t.strictSame(problems, [])
  })

  await t.test('on a phone the page is as wide as the screen', async t => {
    const { page, problems } = await openPage(browser, url, 390)
    t.notOk(await page.getByRole('button', { name: 'Connect' }).isVisible(), 'the form is folded')
    await page.getByText('Try it').click()
    await page.getByRole('button', { name: 'Connect' }).click()
    await status(page, 'connected')
    t.equal(await page.evaluate('document.scrollingElement.scrollWidth'), 390)
    t.strictSame(problems, [])
  })

  await t.test('in a dark scheme the panels of examples are dark too', async t => {
    const { page } = await openPage(browser, url)
    const panel = page.locator('#asyncapi .bg-gray-800').first()
    const png = (await panel.screenshot()).toString('base64')
    // Of the first pixel. The policy of the documentation forbids pictures of this kind.
    const blank = await page.context().newPage()
    const red = await blank.evaluate(`(async () => {
      const image = Object.assign(new Image(), { src: 'data:image/png;base64,${png}' })
      await image.decode()
      const context = new OffscreenCanvas(1, 1).getContext('2d')
      context.drawImage(image, 0, 0)
      return context.getImageData(0, 0, 1, 1).data[0]
    })()`)
    t.ok(Number(red) < 90, `red is ${red}`)
  })

  await t.test('a page that does not load says why', async t => {
    for (const [path, status, reason] of [
      ['json', 403, 'the document is answered with 403'],
      ['component.js', 404, 'the component does not load']
    ] as const) {
      const page = await (await browser.newContext()).newPage()
      await page.route(`**/docs/${path}`, route => route.fulfill({ status }))
      await page.goto(url)
      await page.getByText(`The documentation does not load: ${reason}`).waitFor()
      t.equal(await page.locator('#try-it').isVisible(), false)
    }
  })

  for (const [name, build] of Object.entries({ Ajv: ajvApp, TypeBox: typeBoxApp, Zod: zodApp })) {
    await t.test(`an application with schemas of ${name}`, async t => {
      const app = await documentedApp(t, build, { routePrefix: '/docs' })
      const port = await listen(app)
      await checkDocument(t, app.asyncapi())
      t.strictSame(Object.keys(app.asyncapi().channels['chat-room']?.messages ?? {}), [
        'say',
        'typing',
        'said'
      ])
      const { page, problems } = await openPage(browser, `http://127.0.0.1:${port}/docs`)
      await page.getByRole('textbox', { name: 'room' }).fill('lobby')
      await page.getByRole('button', { name: 'Connect' }).click()
      await status(page, 'connected')
      await page.getByRole('button', { name: 'Send' }).click()
      await entry(page, 'received', '{"type":"said","from":"lobby","text":"text"}')
      await page.getByLabel('Content').fill('{"type":"unknown"}')
      await page.getByRole('button', { name: 'Send' }).click()
      await status(page, 'closed with 1007')
      t.strictSame(problems, [])
    })
  }
})

interface Chat {
  Params: { room: string }
  Receive: { type: 'say'; text: string } | { type: 'typing' }
  Send: { type: 'said'; from: string; text: string }
}

function ajvApp(app: FastifyInstance): void {
  const properties = { text: { type: 'string', maxLength: 500 } }
  const type = (name: string) => ({ type: { type: 'string', const: name } })
  const schema = {
    params: { type: 'object', properties: { room: { type: 'string' } } },
    receive: {
      anyOf: [
        { type: 'object', properties: { ...type('say'), ...properties }, required: ['type', 'text'] },
        { type: 'object', properties: type('typing'), required: ['type'] }
      ]
    },
    send: { type: 'object', properties: { ...type('said'), from: { type: 'string' }, ...properties } }
  }
  app.get<Chat>('/chat/:room', { websocket: true, schema }, async (socket, { params }) => {
    for await (const message of socket)
      if (message.type === 'say') socket.send({ type: 'said', from: params.room, text: message.text })
  })
}

function typeBoxApp(app: FastifyInstance): void {
  const schema = {
    params: Type.Object({ room: Type.String() }),
    receive: Type.Union([
      Type.Object({ type: Type.Literal('say'), text: Type.String({ maxLength: 500 }) }),
      Type.Object({ type: Type.Literal('typing') })
    ]),
    send: Type.Object({ type: Type.Literal('said'), from: Type.String(), text: Type.String() })
  }
  app
    .withTypeProvider<TypeBoxTypeProvider>()
    .get('/chat/:room', { websocket: true, schema }, async (socket, { params }) => {
      for await (const message of socket)
        if (message.type === 'say') socket.send({ type: 'said', from: params.room, text: message.text })
    })
}

function zodApp(app: FastifyInstance): void {
  app.setValidatorCompiler(validatorCompiler)
  app.setSerializerCompiler(serializerCompiler)
  const schema = {
    params: z.object({ room: z.string() }),
    receive: z.discriminatedUnion('type', [
      z.object({ type: z.literal('say'), text: z.string().max(500) }),
      z.object({ type: z.literal('typing') })
    ]),
    send: z.object({ type: z.literal('said'), from: z.string(), text: z.string() })
  }
  app
    .withTypeProvider<ZodTypeProvider>()
    .get('/chat/:room', { websocket: true, schema }, async (socket, { params }) => {
      for await (const message of socket)
        if (message.type === 'say') socket.send({ type: 'said', from: params.room, text: message.text })
    })
}
