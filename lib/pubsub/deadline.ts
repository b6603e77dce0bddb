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
