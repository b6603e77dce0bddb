/** The characters of a token besides letters and digits, RFC 9110 section 5.6.2. */
const TOKEN_SYMBOLS = "!#$%&'*+-.^_`|~"

const TOKEN_CHARS = new Uint8Array(256)
for (const char of TOKEN_SYMBOLS) TOKEN_CHARS[char.charCodeAt(0)] = 1
for (let code = 0x30; code <= 0x39; code++) TOKEN_CHARS[code] = 1
for (let code = 0x41; code <= 0x5a; code++) TOKEN_CHARS[code] = TOKEN_CHARS[code | 0x20] = 1

export function isTokenChar(code: number): boolean {
  return TOKEN_CHARS[code] === 1
}

export function isToken(text: string): boolean {
  if (text.length === 0) return false
  for (let i = 0; i < text.length; i++) {
    if (!isTokenChar(text.charCodeAt(i))) return false
  }
  return true
}

/** Spaces and tabs, RFC 9110 section 5.6.3. */
export function isWhitespace(code: number): boolean {
  return code === 0x20 || code === 0x09
}

/**
 * Reads a comma-separated list of tokens in one pass. Empty elements do not count (RFC 9110 section 5.6.1.2).
 * @returns undefined when the list has an element that is not a token.
 */
export function parseTokenList(text: string): string[] | undefined {
  const tokens: string[] = []
  let start = -1
  let end = -1
  for (let i = 0; i <= text.length; i++) {
    const code = i < text.length ? text.charCodeAt(i) : 0x2c
    if (isTokenChar(code)) {
      if (end !== -1) return undefined
      if (start === -1) start = i
    } else if (isWhitespace(code)) {
      if (start !== -1 && end === -1) end = i
    } else if (code === 0x2c) {
      if (start !== -1) tokens.push(text.slice(start, end === -1 ? i : end))
      start = end = -1
    } else return undefined
  }
  return tokens
}

/**
 * Reads `Upgrade`, a list of protocol names that may each have a version behind a slash (RFC 9110 section 7.8).
 * @returns the protocols in lower case, each with its version; undefined when the list is malformed.
 */
export function parseUpgrade(text: string): string[] | undefined {
  const protocols: string[] = []
  for (const element of text.split(',')) {
    const protocol = trimWhitespace(element)
    if (protocol === '') continue
    const slash = protocol.indexOf('/')
    const isProtocol =
      slash === -1
        ? isToken(protocol)
        : isToken(protocol.slice(0, slash)) && isToken(protocol.slice(slash + 1))
    if (!isProtocol) return undefined
    protocols.push(protocol.toLowerCase())
  }
  return protocols
}

/** A regular expression would look for the end from each space. */
function trimWhitespace(text: string): string {
  let start = 0
  let end = text.length
  while (start < end && isWhitespace(text.charCodeAt(start))) start++
  while (end > start && isWhitespace(text.charCodeAt(end - 1))) end--
  return text.slice(start, end)
}

/** Whether a list of tokens contains one, in any case. A malformed list contains nothing. */
export function hasToken(text: string | undefined, token: string): boolean {
  if (text === undefined) return false
  if (text.toLowerCase() === token) return true
  return parseTokenList(text)?.some(element => element.toLowerCase() === token) === true
}
