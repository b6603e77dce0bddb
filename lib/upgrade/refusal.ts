import { STATUS_CODES } from 'node:http'
import { headerField } from '../protocol/handshake/header-field.js'
import type { Refusal } from '../protocol/handshake/request.js'

/** The fields that say how long the answer is and what follows it. */
const FRAMING = ['content-length', 'transfer-encoding']

/**
 * The response to a handshake that is refused, to be written as it is. The connection ends behind it.
 * @throws {TypeError} when the status is none of a refusal, or a header cannot be sent.
 */
export function refusalResponse({ status, message, headers }: Omit<Refusal, 'code'>): Buffer {
  const phrase = STATUS_CODES[status]
  if (phrase === undefined || status < 300) throw new TypeError(`${status} is not a status that refuses.`)
  const body = Buffer.from(message)
  const fields = new Map([
    ['connection', 'close'],
    ['content-type', 'text/plain; charset=utf-8']
  ])
  for (const [name, value] of Object.entries(headers)) fields.set(name.toLowerCase(), value)
  for (const name of FRAMING) fields.delete(name)
  let head = `HTTP/1.1 ${status} ${phrase}\r\n`
  for (const [name, value] of fields) head += headerField(name, value)
  return Buffer.concat([Buffer.from(`${head}content-length: ${body.length}\r\n\r\n`, 'latin1'), body])
}
