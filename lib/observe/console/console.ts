import type { FastifyBaseLogger } from 'fastify'
import type { WebSocketServer } from '../../fastify/websocket-server.js'
import { type ProcessSummary, REPORT, type Report } from './messages.js'
import { Reporter } from './reporter.js'
import { matches } from './schema.js'
import { type PageSocket, Viewer } from './viewer.js'

/** The console of a process: reports its state to the other processes, and sends the state of all processes to open pages. */
export class Console {
  readonly #server: WebSocketServer
  readonly #interval: number
  readonly #log: FastifyBaseLogger
  readonly #reporter: Reporter
  readonly #viewers = new Set<Viewer>()
  #timer: NodeJS.Timeout | undefined
  #isRefreshing = false

  /** @param interval milliseconds between two summaries. */
  constructor(server: WebSocketServer, interval: number, log: FastifyBaseLogger) {
    this.#server = server
    this.#interval = interval
    this.#log = log
    this.#reporter = new Reporter(server)
    server.reporter = () => JSON.stringify(this.#reporter.report())
  }

  close(): void {
    clearInterval(this.#timer)
    this.#server.reporter = undefined
    this.#reporter.close()
  }

  /** A page has opened. The processes are asked only while there is one. */
  open(socket: PageSocket, log: FastifyBaseLogger): Viewer {
    const viewer = new Viewer(this.#server, socket, log)
    this.#viewers.add(viewer)
    this.#timer ??= setInterval(() => void this.#refresh(), this.#interval).unref()
    void this.#refresh()
    return viewer
  }

  leave(viewer: Viewer): void {
    viewer.close()
    this.#viewers.delete(viewer)
    if (this.#viewers.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** One at a time, as a process that does not answer takes two seconds. */
  async #refresh(): Promise<void> {
    if (this.#isRefreshing) return
    this.#isRefreshing = true
    try {
      await this.#summarize()
      await Promise.all(Array.from(this.#viewers, viewer => viewer.refresh()))
    } catch (error) {
      this.#log.error({ err: error }, 'the console failed')
    } finally {
      this.#isRefreshing = false
    }
  }

  async #summarize(): Promise<void> {
    const { reports, isComplete } = await this.#server.reports()
    const [{ process }] = reports
    const processes = reports.map(({ process, connections, report }): ProcessSummary => {
      return { process, connections, report: parseReport(report) }
    })
    for (const viewer of this.#viewers)
      viewer.send({ type: 'summary', interval: this.#interval, process, processes, isComplete })
  }
}

/** @returns undefined for a process without a console, or with one of another version. */
function parseReport(text: string | undefined): Report | undefined {
  if (text === undefined) return undefined
  try {
    const report: unknown = JSON.parse(text)
    return matches(REPORT, report) ? report : undefined
  } catch {
    return undefined
  }
}
