import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { type ExtensionOffer, parseExtensions } from '../../lib/protocol/extension.js'
import { checkResponse, handshakeRequest } from '../../lib/protocol/handshake/client-handshake.js'
import { asksForWebSocket, checkRequest } from '../../lib/protocol/handshake/request.js'
import { acceptDeflate, checkDeflateAnswer, offerDeflate } from '../../lib/protocol/permessage-deflate.js'
import {
  agreedByClient,
  agreedByServer,
  answerFault,
  extensionList,
  isEstablished,
  judge,
  type Request,
  valuesOf
} from './handshake-model.js'
import { ASKED, EXTENSIONS, REQUEST, RESPONSE, WISHES } from './handshakes.js'
import { tryProperty } from './run.js'

/** The headers as `node:http` provides them. */
const headOf = ({ method, url, raw }: Request) => ({
  method,
  url,
  httpVersionMajor: 1,
  httpVersionMinor: 1,
  headers: { upgrade: valuesOf(raw, 'upgrade').join(', ') },
  rawHeaders: raw
})

/** The result of the parser, with lists in a comparable form. */
const plain = (offers: readonly ExtensionOffer[] | undefined) =>
  offers?.map(({ name, parameters }) => ({
    name,
    parameters: parameters.map(([key, value]) => [key, value])
  }))

function checkHandshake(request: Request): void {
  const { refusals, accepted } = judge(request)
  const own = Object.getOwnPropertyNames(Object.prototype).length
  const result = checkRequest(headOf(request))
  assert.equal(Object.getOwnPropertyNames(Object.prototype).length, own, 'no prototype is changed')
  if ('status' in result) {
    assert.ok(
      refusals.includes(String(result.status)),
      `${result.status} ${result.code}; the model: ${refusals}`
    )
    assert.match(result.code, /^FST_UPGRADE_[A-Z_]+$/)
    if (result.status === 405) assert.equal(result.headers.allow, 'GET')
    if (result.status === 426) assert.equal(result.headers['sec-websocket-version'], '13')
    return
  }
  assert.ok(accepted !== undefined, `accepted; the model: ${refusals}`)
  const { extensions, ...rest } = result
  const { extensions: expected, ...others } = accepted
  // No rule accepts an Origin without a value.
  assert.deepEqual({ ...rest, origin: rest.origin || undefined, protocols: [...rest.protocols] }, others)
  assert.deepEqual(plain(extensions), plain(expected))
}

t.test('RFC 6455 section 4.2.1: every request gets the answer of the model', async t => {
  await tryProperty(t, 'request', fc.property(REQUEST, checkHandshake), 800)
})

t.test(
  'RFC 9110 section 7.8: a request asks for WebSocket when it is HTTP/1.1 and lists the protocol',
  async t => {
    const upgrade = fc.constantFrom(
      'websocket',
      'WebSocket',
      'h2c',
      'websocket/13',
      'foo/1',
      'websockets',
      'h2c, websocket',
      ' websocket',
      ''
    )
    const property = fc.property(
      fc.constantFrom(0, 1, 2),
      fc.nat(2),
      fc.array(upgrade, { maxLength: 3 }),
      (major, minor, values) => {
        const head = {
          ...headOf({ method: 'GET', url: '/', raw: [] }),
          httpVersionMajor: major,
          httpVersionMinor: minor
        }
        const asks = asksForWebSocket({ ...head, headers: { upgrade: values.join(', ') } })
        const list = values
          .join(', ')
          .split(',')
          .map(one => one.trim())
        const isThere = major === 1 && minor >= 1 && list.some(one => one.toLowerCase() === 'websocket')
        assert.equal(asks, isThere)
      }
    )
    await tryProperty(t, 'asks', property, 300)
  }
)

t.test(
  'RFC 7692 section 7.1: of several offers, the server accepts and answers the one that the model accepts',
  async t => {
    const property = fc.property(EXTENSIONS, WISHES, (text, wishes) => {
      const offers = extensionList(text)
      const parsed = parseExtensions(text)
      assert.deepEqual(plain(parsed), plain(offers))
      if (offers === undefined || parsed === undefined) return
      const agreed = agreedByServer(offers, wishes)
      const accepted = acceptDeflate(parsed, wishes)
      assert.deepEqual(accepted?.parameters, agreed)
      if (accepted === undefined) return
      // 7.1: a client with default options derives the parameters of the server from the answer.
      const answer = extensionList(accepted.response) ?? []
      const open = {
        serverNoContextTakeover: false,
        clientNoContextTakeover: false,
        serverMaxWindowBits: 15,
        clientMaxWindowBits: 15
      }
      const understood = agreedByClient(answer, open)
      // A client of this package would refuse a client window of 8.
      if (agreed?.clientMaxWindowBits !== 8) assert.deepEqual(understood, agreed)
      assert.equal(answer.length, 1)
      assert.equal(answerFault(offers, answer[0]), undefined)
    })
    await tryProperty(t, 'offers', property, 700)
  }
)

t.test('RFC 7692 section 7.1: a client accepts the answers that the model accepts', async t => {
  const property = fc.property(EXTENSIONS, WISHES, (text, wishes) => {
    const parsed = parseExtensions(text)
    const answer = extensionList(text)
    if (parsed === undefined || answer === undefined) return
    const checked = checkDeflateAnswer(parsed, wishes)
    assert.deepEqual('parameters' in checked ? checked.parameters : undefined, agreedByClient(answer, wishes))
  })
  await tryProperty(t, 'answers', property, 700)
})

t.test(
  'RFC 7692 section 7.1: a client and a server of this package agree, whatever their options are',
  async t => {
    const property = fc.property(WISHES, WISHES, (client, server) => {
      const offered = extensionList(offerDeflate(client)) ?? []
      assert.equal(offered.length, 1)
      const accepted = acceptDeflate(parseExtensions(offerDeflate(client)) ?? [], server)
      assert.ok(accepted !== undefined)
      assert.deepEqual(checkDeflateAnswer(parseExtensions(accepted.response) ?? [], client), {
        parameters: accepted.parameters
      })
      assert.deepEqual(accepted.parameters, agreedByServer(offered, server))
    })
    await tryProperty(t, 'agree', property, 500)
  }
)

t.test('RFC 6455 section 4.1: a client accepts the responses that the model accepts', async t => {
  const property = fc.property(RESPONSE, ASKED, (response, asked) => {
    const established = isEstablished(response, asked)
    const result = checkResponse(response, { host: 'a', ...asked })
    if (established === 'unclear') return
    assert.equal('protocol' in result, established, JSON.stringify(result))
    if (!('protocol' in result)) return
    assert.equal(result.protocol, response.headers['sec-websocket-protocol'] ?? '')
    const extensions = response.headers['sec-websocket-extensions']
    const agreed = asked.deflate && agreedByClient(extensionList(extensions ?? '') ?? [], asked.deflate)
    assert.deepEqual(result.deflate, extensions === undefined ? undefined : agreed)
  })
  await tryProperty(t, 'response', property, 700)
})

t.test('RFC 6455 section 4.1: the server accepts the request of any client', async t => {
  const path = fc
    .webUrl({ withQueryParameters: true })
    .map(url => url.replace(/^https?:\/\/[^/?]+/, ''))
    .map(rest => (rest.startsWith('/') ? rest : `/${rest}`))
  const property = fc.property(ASKED, path, (asked, path) => {
    const text = handshakeRequest({ host: 'a', path, ...asked }).toString('latin1')
    const [requestLine, ...lines] = text.slice(0, -4).split('\r\n')
    const raw = lines.flatMap(line => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)])
    assert.ok(text.endsWith('\r\n\r\n'))
    assert.equal(requestLine, `GET ${path} HTTP/1.1`)
    const { refusals, accepted } = judge({ method: 'GET', url: path, raw })
    assert.deepEqual(refusals, [])
    assert.deepEqual(accepted?.protocols, asked.protocols)
    assert.equal(accepted?.extensions.length, asked.deflate === undefined ? 0 : 1)
    assert.ok('key' in checkRequest(headOf({ method: 'GET', url: path, raw })))
  })
  await tryProperty(t, 'client', property, 100)
})
