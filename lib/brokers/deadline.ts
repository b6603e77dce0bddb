import { InvalidBrokerOptionError } from './error.js'

/** The most that a timer can wait. */
const MAX_TIMEOUT = 2 ** 31 - 1

/** @throws {TypeError} `FST_UPGRADE_INVALID_BROKER_OPTION` */
export function checkTimeout(timeout: number): void {
  if (Number.isInteger(timeout) && timeout >= 1 && timeout <= MAX_TIMEOUT) return
  throw new InvalidBrokerOptionError('timeout', `an integer from 1 to ${MAX_TIMEOUT}`)
}

/** Calls back when nobody cancels it in time. */
export class Deadline {
  readonly #timer: NodeJS.Timeout
  #immediate: NodeJS.Immediate | undefined

  constructor(milliseconds: number, onLate: () => void) {
    this.#timer = setTimeout(() => {
      // A process that was held up itself reads first what has come meanwhile.
      this.#immediate = setImmediate(onLate)
    }, milliseconds)
  }

  cancel(): void {
    clearTimeout(this.#timer)
    clearImmediate(this.#immediate)
  }
}
