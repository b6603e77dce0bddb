import { existsSync } from 'node:fs'
import { join } from 'node:path'

/**
 * @param {string} text
 * @param {string} name of the option.
 */
export function positive(text, name) {
  const value = Number(text)
  if (!(value > 0 && value < 2 ** 32)) throw new Error(`${name} has to be a number above 0`)
  return value
}

/**
 * @param {string} text
 * @param {string} name of the option.
 */
export function whole(text, name) {
  const value = positive(text, name)
  if (!Number.isInteger(value)) throw new Error(`${name} has to be a whole number`)
  return value
}

/** @param {string} folder that has to hold a build. */
export function checkBuild(folder) {
  if (!existsSync(join(folder, 'dist/lib/index.js'))) {
    throw new Error(`there is no build in ${folder}: run npm run build`)
  }
  return folder
}
