import { cpus, loadavg, release, totalmem } from 'node:os'

/** What a figure depends on, and how many processes wanted a core in the minute before. */
export function machine() {
  const [{ model }] = cpus()
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`
  return {
    node: process.version,
    system: `${process.platform} ${release()}`,
    cpu: model,
    cores: cpus().length,
    memory,
    loadAverage: loadavg()[0]
  }
}
