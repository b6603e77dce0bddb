import { parseArgs } from 'node:util'
import { isNodeVersion } from '../../scripts/node-version.mjs'

/**
 * @typedef {object} Options
 * @property {string | undefined} ref
 * @property {string[]} node versions of Node; none for the one that runs.
 * @property {string[]} only
 * @property {number} rounds
 * @property {number} seconds
 * @property {boolean} help
 */

/**
 * Reads the command line.
 * @param {string[]} args
 * @param {readonly string[]} names what `--only` may list.
 * @param {{ takesRef: boolean, takesNode: boolean }} allowed
 * @returns {Options}
 */
export function readOptions(args, names, { takesRef, takesNode }) {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: takesRef,
    options: {
      only: { type: 'string' },
      node: { type: 'string' },
      rounds: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '2' },
      help: { type: 'boolean', default: false }
    }
  })
  if (!takesNode && values.node !== undefined) throw new Error('--node is an option of `npm run bench` alone')
  if (positionals.length > 1) throw new Error('only one git ref can be compared with')
  return {
    ref: positionals[0],
    node: readVersions(values.node),
    only: readNames(values.only, names),
    rounds: positiveInteger(values.rounds, '--rounds'),
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

/** @param {string | undefined} list */
function readVersions(list) {
  const versions = list === undefined ? [] : list.split(',').map(version => version.trim())
  const wrong = versions.find(version => !isNodeVersion(version))
  if (wrong !== undefined) throw new Error(`--node takes versions such as 22,24.1; not «${wrong}»`)
  return versions
}

/**
 * @param {string} text
 * @param {string} name of the option.
 */
export function positiveInteger(text, name) {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`${name} has to be a whole number above 0`)
  return value
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
