/** The path of a route as AsyncAPI writes it, with its parameters in braces. */
export interface Address {
  readonly address: string
  /** The names of the parameters. A wildcard is called `*` in Fastify. */
  readonly parameters: readonly { readonly name: string; readonly key: string }[]
}

/** The key of the wildcard among the parameters of a channel. */
const WILDCARD = 'wildcard'

/**
 * The addresses of a URL of Fastify: two when its last parameter is optional, otherwise one. `:name` is a parameter, with an
 * expression or a `?` behind it; `::` is a colon; `*` matches the rest of the path.
 */
export function addressesOf(url: string): readonly Address[] {
  const optional = /^(.*)\/:[^/()]+\?$/.exec(url)
  if (optional === null) return [addressOf(url)]
  return [addressOf(optional[1] || '/'), addressOf(url.slice(0, -1))]
}

function addressOf(url: string): Address {
  const parameters: { name: string; key: string }[] = []
  let address = ''
  let rest = url
  while (rest !== '') {
    const parameter = /^:([^/(.:-]+)/.exec(rest)
    if (rest.startsWith('::')) {
      address += ':'
      rest = rest.slice(2)
    } else if (parameter !== null) {
      const [whole, name = ''] = parameter
      parameters.push({ name, key: name })
      address += `{${name}}`
      rest = rest.slice(whole.length)
      rest = rest.slice(expressionLength(rest))
    } else if (rest === '*') {
      parameters.push({ name: '*', key: WILDCARD })
      address += `{${WILDCARD}}`
      rest = ''
    } else {
      address += rest.slice(0, 1)
      rest = rest.slice(1)
    }
  }
  return { address, parameters }
}

/** The length of the expression in parentheses at the beginning of a text; 0 without one. */
function expressionLength(text: string): number {
  let depth = text.startsWith('(') ? 1 : 0
  let index = depth
  for (; depth > 0 && index < text.length; index++) {
    if (text[index] === '\\') index++
    else if (text[index] === '(') depth++
    else if (text[index] === ')') depth--
  }
  return index
}
