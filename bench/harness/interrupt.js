/** Aborted on Ctrl-C and on a request to end: what runs is stopped, and what was made is removed. */
const controller = new AbortController()

export const interrupted = controller.signal

export class Interruption extends Error {}

// The listeners stay: npm hands on the signal that the terminal has already sent, and a second one must not cut the
// clearing up short.
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(name, () => controller.abort(new Interruption(`interrupted by ${name}`)))
}
