import { strict as assert } from 'node:assert'
import { once } from 'node:events'
import { Ajv } from 'ajv'
import addFormats from 'ajv-formats'
import fc from 'fast-check'
import build from 'fast-json-stringify'
import Fastify from 'fastify'
import t from 'tap'
import upgrade, { type Message, type WebSocket } from '../../lib/index.js'
import { watchProcess, withDeadline } from '../helpers/app.js'
import { HOSTILE, SCHEMA, VALUE } from './messages.js'
import { tryProperty } from './run.js'

/** As Fastify sets it up. */
function validatorByHand(schema: object): (json: string) => string {
  const ajv = new Ajv({ coerceTypes: 'array', useDefaults: true, removeAdditional: true, strict: false })
  addFormats.default(ajv)
  const validate = ajv.compile(schema)
  return json => {
    const holder = { value: JSON.parse(json) }
    const isValid = validate(holder.value, {
      instancePath: '',
      parentData: holder,
      parentDataProperty: 'value',
      rootData: holder.value,
      dynamicAnchors: {}
    })
    return isValid ? `value ${JSON.stringify(holder.value)}` : `invalid ${validate.errors?.[0]?.keyword}`
  }
}

async function nextText(client: {
  once(event: 'message', listener: (data: Buffer) => void): unknown
}): Promise<string> {
  return new Promise(resolve => client.once('message', data => resolve(String(data))))
}

t.test('random schemas and values: the same verdict and the same value as Ajv by hand', async t => {
  const property = fc.asyncProperty(
    SCHEMA,
    fc.array(VALUE, { minLength: 1, maxLength: 8 }),
    async (receive, values) => {
      const app = Fastify({ ajv: { customOptions: { strict: false } } })
      await app.register(upgrade)
      app.get(
        '/',
        {
          websocket: {
            invalidMessage: ({ validation }, socket) => socket.send(`invalid ${validation?.[0]?.keyword}`)
          },
          schema: { receive }
        },
        async socket => {
          for await (const value of socket) socket.send(`value ${JSON.stringify(value)}`)
        }
      )
      const byHand = validatorByHand(receive)
      const client = await app.injectWS('/')
      const answers: string[] = []
      client.on('message', data => answers.push(String(data)))
      const jsons = values.map(value => JSON.stringify(value))
      for (const json of jsons) client.send(json)
      client.close()
      await withDeadline(once(client, 'close'), 10_000, 'the close')
      await app.close()
      assert.deepEqual(answers, jsons.map(byHand))
    }
  )
  await tryProperty(t, 'receive-schema', property, 100)
})

t.test('random schemas and values: the same text as fast-json-stringify by hand', async t => {
  const property = fc.asyncProperty(
    SCHEMA,
    fc.array(VALUE, { minLength: 1, maxLength: 8 }),
    async (send, values) => {
      let byHand: (value: unknown) => string
      try {
        byHand = build(send)
      } catch {
        return
      }
      const app = Fastify()
      await app.register(upgrade)
      const opened = new Promise<WebSocket<Message, unknown>>(resolve => {
        app.get<{ Send: unknown }>('/', { websocket: true, schema: { send } }, socket => resolve(socket))
      })
      const client = await app.injectWS('/')
      const socket = await opened
      const isStructure = ['object', 'array'].includes(Reflect.get(send, 'type'))
      for (const value of values) {
        let expected: string | undefined
        try {
          if (!isStructure || (typeof value === 'object' && value !== null)) expected = byHand(value)
          // Of a list it makes an object without properties, where the schema describes an object.
          if (Array.isArray(value) && expected?.startsWith('{')) expected = undefined
        } catch {}
        if (expected === undefined)
          assert.throws(() => socket.send(value), { code: /FST_UPGRADE_(SERIALIZATION|INVALID_DATA)/ })
        else {
          socket.send(value)
          assert.equal(
            await withDeadline(nextText(client), 10_000, 'a message'),
            Buffer.from(expected).toString()
          )
        }
      }
      client.terminate()
      await app.close()
    }
  )
  await tryProperty(t, 'send-schema', property, 100)
})

t.test('hostile messages end their own connection at most', async t => {
  watchProcess(t)
  const app = Fastify({ ajv: { customOptions: { strict: false } } })
  t.teardown(() => app.close())
  await app.register(upgrade)
  for (const [path, receive] of [
    ['/any', {}],
    [
      '/tree',
      {
        $id: 'tree',
        anyOf: [
          { type: 'array', items: { $ref: '#' } },
          { type: 'object', additionalProperties: { $ref: '#' } },
          { type: 'number' }
        ]
      }
    ],
    ['/string', { type: 'string', maxLength: 10 }]
  ] as const)
    app.get(path, { websocket: true, schema: { receive, send: {} } }, async socket => {
      for await (const value of socket) socket.send(value)
    })
  const bystander = await app.injectWS('/any')
  const property = fc.asyncProperty(
    fc.constantFrom('/any', '/tree', '/string'),
    fc.array(HOSTILE, { minLength: 1, maxLength: 4 }),
    async (path, messages) => {
      const client = await app.injectWS(path)
      for (const message of messages) client.send(message)
      client.close()
      const [code] = await withDeadline(once(client, 'close'), 10_000, 'the close')
      // 1005: all were valid.
      assert.ok([1003, 1005, 1007].includes(code), `closed with ${code}`)
      const answer = nextText(bystander)
      bystander.send('"still here"')
      assert.equal(await withDeadline(answer, 10_000, 'the bystander'), '"still here"')
      assert.equal(Reflect.get({}, 'admin'), undefined)
    }
  )
  await tryProperty(t, 'hostile-messages', property, 200)
  bystander.terminate()
})
