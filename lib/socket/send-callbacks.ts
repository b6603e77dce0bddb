export type SendCallback = (error?: Error) => void

/** The callbacks of what was sent and not written yet, in the order of the frames. */
export class SendCallbacks {
  #ready: SendCallback[] | undefined
  /** Those of the frame that closes each gap, and of what was sent after it. */
  #behind: SendCallback[][] | undefined

  add(callback: SendCallback): void {
    const last = this.#behind?.at(-1)
    if (last !== undefined) last.push(callback)
    else if (this.#ready !== undefined) this.#ready.push(callback)
    else this.#ready = [callback]
  }

  /** What is added from now on belongs to the frame of a gap, or to what is behind it. */
  leaveGap(): void {
    this.#behind ??= []
    this.#behind.push([])
  }

  /**
   * Takes those of what is about to be written.
   * @param gaps how many gaps hold frames back.
   */
  take(gaps: number): SendCallback[] | undefined {
    const behind = this.#behind
    while (behind !== undefined && behind.length > gaps) {
      const [first] = behind.splice(0, 1)
      this.#ready = this.#ready === undefined ? first : this.#ready.concat(first)
    }
    const callbacks = this.#ready
    this.#ready = undefined
    return callbacks?.length === 0 ? undefined : callbacks
  }
}
