/** Strings that need no quotes: they can be nothing else in YAML 1.1 and 1.2. */
const PLAIN = /^[A-Za-z$/_][\w$/.#-]*(?: [\w$/.()-]+)*$/
/** Words that mean another value in YAML 1.1 or 1.2, or that a parser takes for a number. */
const RESERVED = /^(?:y|n|yes|no|on|off|true|false|null|e-?\d+)$/i
/** Characters that a block has to escape, and so cannot hold; or a line that begins or ends with a space. */
const UNPRINTABLE = /[^\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe]|^[ \n]|[ \n]$| \n|\n /

/** An object or a list of JSON as YAML. */
export function toYaml(value: object): string {
  return `${lines(value, '').trimStart()}\n`
}

/** The YAML of a value behind `key:` or `-`. */
function lines(value: unknown, indent: string): string {
  if (Array.isArray(value)) {
    if (value.length === 0) return ' []'
    return value.map(one => `\n${indent}-${inItem(one, `${indent}  `)}`).join('')
  }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).filter(([, one]) => one !== undefined)
    if (entries.length === 0) return ' {}'
    return entries.map(([key, one]) => `\n${indent}${quoted(key)}:${lines(one, `${indent}  `)}`).join('')
  }
  return ` ${scalar(value, indent)}`
}

/** The first line of an object or a list stands behind the `-`. */
function inItem(value: unknown, indent: string): string {
  return lines(value, indent).replace(/^\n\s*/, ' ')
}

function scalar(value: unknown, indent: string): string {
  if (typeof value !== 'string') return JSON.stringify(value)
  if (value.includes('\n') && !UNPRINTABLE.test(value)) {
    return `|-${value.replaceAll(/^(?=.)/gm, indent).replace(/^/, '\n')}`
  }
  return quoted(value)
}

function quoted(text: string): string {
  // Every string of JSON is one of YAML, where these characters are escaped.
  return PLAIN.test(text) && !RESERVED.test(text)
    ? text
    : JSON.stringify(text).replaceAll(/[\u007f-\u009f\u2028\u2029\ufeff]/g, escaped)
}

function escaped(letter: string): string {
  return `\\u${letter.charCodeAt(0).toString(16).padStart(4, '0')}`
}
