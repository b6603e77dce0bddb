import { BASE } from '../peers.js'

/**
 * The versions and the machine of the results.
 * @typedef {object} About
 * @property {string} date
 * @property {{ cpu: string, system: string }} machine
 * @property {string} node
 * @property {Record<string, string>} versions
 * @property {{ rounds: number, seconds: number }} options
 */

/** @param {About} about */
export function footer({ date, machine, node, versions, options: { rounds, seconds } }) {
  const runs = `${rounds === 1 ? 'one run' : `medians of ${rounds} runs`} of ${seconds} s`
  return [
    date.slice(0, 10),
    runs,
    `Node ${node}`,
    `${BASE} ${versions[BASE]}`,
    machine.cpu,
    machine.system
  ].join(' · ')
}
