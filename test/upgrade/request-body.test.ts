import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import t from 'tap'
import { chunked, takeBody } from '../../lib/upgrade/request-body.js'

/** A request whose body Node has read, as since version 26. */
function requestWith(headers: Record<string, string>, ...body: readonly string[]): IncomingMessage {
  const request = new IncomingMessage(new Socket())
  request.headers = headers
  for (const chunk of body) request.push(chunk)
  request.push(null)
  request.complete = true
  return request
}

t.test('a body that Node has read is as it came', t => {
  const body = takeBody(requestWith({ 'content-length': '5' }, 'hel', 'lo'))
  t.equal(String(body), 'hello')
  t.equal(takeBody(requestWith({})).length, 0)
  t.end()
})

t.test('chunks become one, and trailers stay', t => {
  const request = requestWith({ 'transfer-encoding': 'chunked' }, 'hello, ', 'world')
  request.rawTrailers = ['X-Sum', '1', 'x-sum', '2']
  t.equal(String(takeBody(request)), 'c\r\nhello, world\r\n0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n')
  t.end()
})

t.test('no bytes are the last chunk alone', t => {
  t.equal(String(chunked(Buffer.alloc(0), [])), '0\r\n\r\n')
  t.end()
})
