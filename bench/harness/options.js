import { parseArgs } from 'node:util'

/**
 * @typedef {object} Options
 * @property {string | undefined} ref
 * @property {string[]} only
 * @property {number} rounds
 * @property {number} seconds
 * @property {boolean} help
 */

/**
 * Reads the command line.
 * @param {string[]} args
 * @param {readonly string[]} names what `--only` may list.
 * @param {{ takesRef: boolean }} allowed
 * @returns {Options}
 */
export function readOptions(args, names, { takesRef }) {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: takesRef,
    options: {
      only: { type: 'string' },
      rounds: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '2' },
      help: { type: 'boolean', default: false }
    }
  })
  if (positionals.length > 1) throw new Error('only one git ref can be compared with')
  const rounds = positive(values.rounds, '--rounds')
  if (!Number.isInteger(rounds)) throw new Error('--rounds has to be a whole number')
  return {
    ref: positionals[0],
    only: readNames(values.only, names),
    rounds,
    seconds: positive(values.seconds, '--seconds'),
    help: values.help
  }
}

/**
 * @param {string | undefined} list
 * @param {readonly string[]} names
 */
function readNames(list, names) {
  if (list === undefined) return [...names]
  const chosen = list.split(',').map(name => name.trim())
  const unknown = chosen.find(name => !names.includes(name))
  if (unknown !== undefined) throw new Error(`--only knows ${names.join(', ')}; not «${unknown}»`)
  return names.filter(name => chosen.includes(name))
}

/**
 * @param {string} text
 * @param {string} name
 */
function positive(text, name) {
  const value = Number(text)
  if (!(value > 0 && value < 3600)) throw new Error(`${name} has to be a number above 0 and below 3600`)
  return value
}
