import { spawn } from 'node:child_process'
import { interrupted } from './interrupt.js'

/**
 * Runs a program to its end and returns what it printed. A failure carries its output.
 * @param {string} program
 * @param {string[]} args
 * @param {{ cwd?: string }} options
 * @returns {Promise<string>}
 */
export function command(program, args, { cwd } = {}) {
  const shell = process.platform === 'win32' && program === 'npm'
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd, shell, signal: interrupted, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    let all = ''
    child.stdout.setEncoding('utf8').on('data', text => {
      output += text
      all += text
    })
    child.stderr.setEncoding('utf8').on('data', text => {
      all += text
    })
    child.once('error', reject)
    child.once('close', code => {
      if (code === 0) resolve(output.trim())
      else reject(new Error(`«${[program, ...args].join(' ')}» failed with exit code ${code}\n${all.trim()}`))
    })
  })
}
