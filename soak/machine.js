import { cpus, loadavg, release, totalmem } from 'node:os'

/** The properties of the machine that affect a figure, and the load average of the last minute. */
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
