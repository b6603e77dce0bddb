/**
 * The expected result of a handshake according to RFC 6455 section 4, RFC 9110 and RFC 7692 section 7.1, with regular
 * expressions.
 */
import { hash } from 'node:crypto'

export interface Offer {
  readonly name: string
  readonly parameters: readonly (readonly [name: string, value: string | undefined])[]
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/

/** Without a regular expression, which would look for the end from each blank. */
export function trim(text: string): string {
  let [start, end] = [0, text.length]
  while (start < end && ' \t'.includes(text[start])) start++
  while (end > start && ' \t'.includes(text[end - 1])) end--
  return text.slice(start, end)
}

/** RFC 9110 section 5.6.1: empty elements do not count. */
const elements = (text: string): string[] => text.split(',').map(trim).filter(Boolean)

/** The value of a field that may occur several times (RFC 9110 section 5.3); undefined if it is absent. */
function joined(raw: readonly string[], name: string): string | undefined {
  const values = valuesOf(raw, name)
  return values.length === 0 ? undefined : values.join(',')
}

export function valuesOf(raw: readonly string[], name: string): string[] {
  return raw.filter((_value, i) => i % 2 === 1 && raw[i - 1].toLowerCase() === name)
}

/** 'unclear' when the list has the token and invalid elements. */
function hasToken(value: string | undefined, token: string): boolean | 'unclear' {
  const list = elements(value ?? '')
  if (!list.some(element => element.toLowerCase() === token)) return false
  return list.every(element => TOKEN.test(element)) || 'unclear'
}

export interface Request {
  readonly method: string
  readonly url: string
  readonly raw: readonly string[]
}

/** The allowed answers. `accepted` is set when the handshake may be accepted. */
export interface Verdict {
  readonly refusals: readonly string[]
  readonly accepted:
    | {
        readonly key: string
        readonly protocols: readonly string[]
        readonly extensions: readonly Offer[]
        readonly origin: string | undefined
      }
    | undefined
}

export function judge({ method, url, raw }: Request): Verdict {
  const refusals: string[] = []
  const values = (name: string): string[] => valuesOf(raw, name)
  if (method !== 'GET') refusals.push('405')
  if (!/^\/[^#]*$/.test(url)) refusals.push('400')
  const host = values('host')
  if (host.length !== 1 || host[0] === '') refusals.push('400')
  const upgrades = hasToken(joined(raw, 'connection'), 'upgrade')
  if (upgrades !== true) refusals.push('400')
  const versions = values('sec-websocket-version')
  if (versions.length > 1) refusals.push('400')
  if (versions.length < 2 && versions[0] !== '13') refusals.push('426')
  const keys = values('sec-websocket-key')
  const decoded = Buffer.from(keys[0] ?? '', 'base64')
  // A value that decodes to 16 bytes, without the characters that a lenient decoder skips.
  if (keys.length !== 1 || decoded.length !== 16 || !/^[A-Za-z0-9+/]{22}==$/.test(keys[0]))
    refusals.push('400')
  const hasBody = values('content-length').some(length => Number(length) !== 0)
  if (hasBody || values('transfer-encoding').length > 0) refusals.push('400')
  const protocols = subprotocols(joined(raw, 'sec-websocket-protocol'))
  const extensions = extensionList(joined(raw, 'sec-websocket-extensions') ?? '')
  if (protocols === undefined || extensions === undefined) refusals.push('400')
  const mayBeGood = refusals.length === (upgrades === 'unclear' ? 1 : 0)
  if (!mayBeGood || protocols === undefined || extensions === undefined)
    return { refusals, accepted: undefined }
  return {
    refusals,
    accepted: { key: keys[0], protocols, extensions, origin: values('origin').join(', ') || undefined }
  }
}

/** 4.1: one or more, without duplicates. */
function subprotocols(value: string | undefined): string[] | undefined {
  if (value === undefined) return []
  const list = elements(value)
  const isGood = list.length > 0 && list.every(one => TOKEN.test(one)) && new Set(list).size === list.length
  return isGood ? list : undefined
}

const LEXEME = /[ \t]+|[,;=]|[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"(?:[^"\\]|\\[\s\S])*"/y

/** 9.1: the grammar, on lexemes without the white space that is allowed between them. */
export function extensionList(text: string): Offer[] | undefined {
  const lexemes: string[] = []
  LEXEME.lastIndex = 0
  while (LEXEME.lastIndex < text.length) {
    const [lexeme] = LEXEME.exec(text) ?? []
    if (lexeme === undefined) return undefined
    if (!/^[ \t]/.test(lexeme)) lexemes.push(lexeme)
  }
  const list: Offer[] = []
  for (const element of split(lexemes, ',')) {
    if (element.length === 0) continue
    const [[name, ...more], ...parameters] = split(element, ';')
    if (name === undefined || more.length > 0 || !TOKEN.test(name)) return undefined
    const read = parameters.map(readParameter)
    if (read.includes(undefined)) return undefined
    list.push({ name, parameters: read.filter(one => one !== undefined) })
  }
  return list
}

function readParameter(lexemes: readonly string[]): [string, string | undefined] | undefined {
  const [name = '', equals, value = '', ...more] = lexemes
  if (!TOKEN.test(name) || more.length > 0) return undefined
  if (equals === undefined) return [name, undefined]
  const unquoted = value.startsWith('"') ? value.slice(1, -1).replace(/\\([\s\S])/g, '$1') : value
  return equals === '=' && TOKEN.test(unquoted) ? [name, unquoted] : undefined
}

function split(lexemes: readonly string[], separator: string): string[][] {
  const parts: string[][] = [[]]
  for (const lexeme of lexemes) {
    if (lexeme === separator) parts.push([])
    else parts.at(-1)?.push(lexeme)
  }
  return parts
}

// ---- RFC 7692 section 7.1

export interface Wishes {
  readonly serverNoContextTakeover: boolean
  readonly clientNoContextTakeover: boolean
  readonly serverMaxWindowBits: number
  readonly clientMaxWindowBits: number
}

/** The parameters of an offer or an answer; undefined when it must be declined as a whole. */
interface Named {
  readonly serverNo: boolean
  readonly clientNo: boolean
  readonly serverBits: number | undefined
  /** 'any' means the parameter without a value. */
  readonly clientBits: number | 'any' | undefined
}

function named(parameters: Offer['parameters']): Named | undefined {
  const names = parameters.map(([name]) => name)
  if (new Set(names).size < names.length) return undefined
  const find = (name: string) => parameters.find(([one]) => one === name)
  const bits = (value: string | undefined): number | undefined =>
    ['8', '9', '10', '11', '12', '13', '14', '15'].includes(value ?? '') ? Number(value) : undefined
  for (const [name, value] of parameters) {
    if (name === 'server_no_context_takeover' || name === 'client_no_context_takeover') {
      if (value !== undefined) return undefined
    } else if (name === 'server_max_window_bits') {
      if (bits(value) === undefined) return undefined
    } else if (name === 'client_max_window_bits') {
      if (value !== undefined && bits(value) === undefined) return undefined
    } else return undefined
  }
  const clientBits = find('client_max_window_bits')
  return {
    serverNo: names.includes('server_no_context_takeover'),
    clientNo: names.includes('client_no_context_takeover'),
    serverBits: bits(find('server_max_window_bits')?.[1]),
    clientBits: clientBits === undefined ? undefined : (bits(clientBits[1]) ?? 'any')
  }
}

/** The first offer that a server can accept: zlib cannot compress with a window of 8 bits. */
function acceptable(list: readonly Offer[]): Named | undefined {
  return list
    .filter(({ name }) => name === 'permessage-deflate')
    .map(({ parameters }) => named(parameters))
    .find(offer => offer !== undefined && offer.serverBits !== 8)
}

/** The parameters that the server agrees to. */
export function agreedByServer(list: readonly Offer[], wishes: Wishes): Wishes | undefined {
  const offer = acceptable(list)
  if (offer === undefined) return undefined
  const { serverBits = 15, clientBits } = offer
  const most = clientBits === 'any' ? 15 : clientBits
  return {
    serverNoContextTakeover: offer.serverNo || wishes.serverNoContextTakeover,
    clientNoContextTakeover: offer.clientNo || wishes.clientNoContextTakeover,
    serverMaxWindowBits: Math.min(serverBits, wishes.serverMaxWindowBits),
    // 7.1.2.2: without the parameter in the offer the server must not send it in the answer.
    clientMaxWindowBits: most === undefined ? 15 : Math.min(most, wishes.clientMaxWindowBits)
  }
}

/** The errors in the parameters of a server's answer, besides their values. */
export function answerFault(list: readonly Offer[], answer: Offer): string | undefined {
  const offer = acceptable(list)
  const given = named(answer.parameters)
  if (offer === undefined || given === undefined) return 'not valid'
  // 7.1.1.1 and 7.1.2.1: an offer with these is accepted by returning them.
  if (offer.serverNo && !given.serverNo) return 'server_no_context_takeover was asked for'
  if (offer.serverBits !== undefined && given.serverBits === undefined)
    return 'server_max_window_bits was asked for'
  if (offer.clientBits === undefined && given.clientBits !== undefined)
    return 'client_max_window_bits was not offered'
  return given.clientBits === 'any' ? 'client_max_window_bits without a value' : undefined
}

/** The parameters that a client derives from an answer; undefined when it must fail the connection. */
export function agreedByClient(list: readonly Offer[], wishes: Wishes): Wishes | undefined {
  const answer =
    list.length === 1 && list[0].name === 'permessage-deflate' ? named(list[0].parameters) : undefined
  if (answer === undefined || answer.clientBits === 'any') return undefined
  const agreed = {
    serverNoContextTakeover: answer.serverNo,
    clientNoContextTakeover: answer.clientNo || wishes.clientNoContextTakeover,
    serverMaxWindowBits: answer.serverBits ?? 15,
    clientMaxWindowBits: answer.clientBits ?? wishes.clientMaxWindowBits
  }
  const isLess = wishes.serverNoContextTakeover && !agreed.serverNoContextTakeover
  const isMore =
    agreed.serverMaxWindowBits > wishes.serverMaxWindowBits ||
    agreed.clientMaxWindowBits > wishes.clientMaxWindowBits
  return isLess || isMore || agreed.clientMaxWindowBits === 8 ? undefined : agreed
}

// ---- the client's check of a response, section 4.1

export interface Response {
  readonly statusCode: number
  readonly headers: Readonly<Record<string, string | undefined>>
}

export interface Asked {
  readonly key: string
  readonly protocols: readonly string[]
  readonly deflate: Wishes | undefined
}

/** Whether the connection is established; 'unclear' when a list has invalid elements. */
export function isEstablished(
  { statusCode, headers }: Response,
  { key, protocols, deflate }: Asked
): boolean | 'unclear' {
  const sha = hash('sha1', `${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`, 'base64')
  const protocol = headers['sec-websocket-protocol']
  const extensions = headers['sec-websocket-extensions']
  const chosen = extensions === undefined ? undefined : extensionList(extensions)
  const isGood =
    statusCode === 101 &&
    headers.upgrade?.toLowerCase() === 'websocket' &&
    headers['sec-websocket-accept'] === sha &&
    (protocol === undefined || protocols.includes(protocol)) &&
    (extensions === undefined ||
      (deflate !== undefined && chosen !== undefined && agreedByClient(chosen, deflate) !== undefined))
  return isGood && hasToken(headers.connection, 'upgrade')
}
