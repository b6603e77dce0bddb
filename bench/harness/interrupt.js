/** Aborted on Ctrl-C and SIGTERM: running work is stopped, and temporary files are removed. */
const controller = new AbortController()

export const interrupted = controller.signal

export class Interruption extends Error {}

// The listeners stay: npm passes on the signal that the terminal has already sent, and a second signal must not interrupt
// the cleanup.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(name, () => controller.abort(new Interruption(`interrupted by ${name}`)))
}
