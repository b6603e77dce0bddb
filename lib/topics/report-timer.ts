/** How often the processes of an application report to each other. */
export interface ReportSettings {
  /** Interval in milliseconds between reports to other processes. */
  readonly interval: number
  /** Milliseconds of silence after which a process counts as gone. */
  readonly timeout: number
}

/** The interval of the reports to the other processes. */
export class ReportTimer {
  readonly #settings: ReportSettings
  readonly #onReport: (since: number) => void
  #timer: NodeJS.Timeout | undefined
  /** When the last report was due. */
  #reportedAt = 0

  /** @param onReport called at each interval. A process that was last heard before `since` is gone. */
  constructor(settings: ReportSettings, onReport: (since: number) => void) {
    this.#settings = settings
    this.#onReport = onReport
  }

  /** Does nothing when it has started. It does not keep the process alive. */
  start(): void {
    if (this.#timer !== undefined) return
    this.#reportedAt = performance.now()
    this.#timer = setInterval(() => this.#onInterval(), this.#settings.interval).unref()
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  #onInterval(): void {
    const { interval, timeout } = this.#settings
    const now = performance.now()
    // If this process was blocked, it has not yet read the messages that others sent meanwhile.
    const delay = now - this.#reportedAt - interval
    this.#reportedAt = now
    this.#onReport(now - timeout - Math.max(delay, 0))
  }
}
