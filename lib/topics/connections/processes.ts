import { ReplyTimeout } from '../../brokers/engine.js'
import type { BrokerLink } from '../broker-link.js'
import type { Publication, RemoteMessage, RemotePublication } from '../publication.js'
import { type ReportSettings, ReportTimer } from '../report-timer.js'
import { type Answer, decodeMessage, encodeMessage, type ProcessMessage, type Request } from './protocol.js'

/** Milliseconds in which the other processes have to answer. */
export const REPLY_TIMEOUT = 2_000

/** Milliseconds that other processes have to introduce themselves to a process that has started. */
const INTRODUCTION_TIME = 250

/** Milliseconds for which the rest of a list is kept for the process that has asked for it. */
const KEEP_TIME = 2 * REPLY_TIMEOUT

/** The maximum of lists that are kept at a time. */
const MAX_KEPT = 64

/** A list of connections in parts. */
export interface Parts {
  next(): Pick<Answer, 'connections' | 'more'>
}

/** The result of a request in one process. */
export interface Result {
  readonly count: number
  /** The list that was asked for. */
  readonly parts?: Parts
  /** The report that was asked for. */
  readonly report?: string | undefined
}

/** The rest of a list, for the process that has asked for it. */
interface Kept extends Result {
  readonly parts: Parts
  readonly timeout: ReplyTimeout
}

/** Carries out the requests of other processes. */
export interface RequestHandler {
  /** @param message the message of a request to send one. */
  onRequest(request: Request, message: RemoteMessage): Result
}

/** The answers of the other processes to a call. */
export interface Replies {
  readonly call: number
  /** By the id of the process. */
  readonly answers: ReadonlyMap<string, Answer>
  /** Whether all known processes have answered in time. */
  readonly isComplete: boolean
}

interface CallOptions {
  /** The processes that have to answer. */
  readonly awaited: Iterable<string>
  /** Whether processes that are not known yet may answer, too. */
  readonly isOpen: boolean
  /** Whether an answer ends the call. */
  readonly isEnough: (answer: Answer) => boolean
  readonly onEnd: (isComplete: boolean) => void
}

/** A request until the other processes have answered, or the deadline has passed. */
class Call {
  readonly answers = new Map<string, Answer>()
  readonly #awaited: Set<string>
  readonly #options: CallOptions
  readonly #timeout: ReplyTimeout

  constructor(options: CallOptions) {
    this.#awaited = new Set(options.awaited)
    this.#options = options
    this.#timeout = new ReplyTimeout(REPLY_TIMEOUT, () => this.end(false))
  }

  onAnswer(process: string, answer: Answer, isIntroduced: boolean): void {
    const isAwaited = this.#awaited.delete(process)
    if (!isAwaited && (!this.#options.isOpen || this.answers.has(process))) return
    this.answers.set(process, answer)
    if (this.#options.isEnough(answer)) this.end(true)
    else this.check(isIntroduced)
  }

  /** A process has become known that was running when the request was sent. */
  onProcess(process: string): void {
    if (this.#options.isOpen && !this.answers.has(process)) this.#awaited.add(process)
  }

  onLeave(process: string, isIntroduced: boolean): void {
    if (this.#awaited.delete(process)) this.check(isIntroduced)
  }

  /** Ends the call when no answer is missing. */
  check(isIntroduced: boolean): void {
    if (this.#awaited.size === 0 && (isIntroduced || !this.#options.isOpen)) this.end(true)
  }

  end(isComplete: boolean): void {
    this.#timeout.cancel()
    this.#options.onEnd(isComplete)
  }
}

/**
 * The running processes of an application, and the requests that they send to each other. A process introduces
 * itself, repeats that it is alive, and announces its end, so that a call ends as soon as all others have answered.
 */
export class Processes {
  readonly #link: BrokerLink
  readonly #timer: ReportTimer
  /** When each of the other processes was last heard. */
  readonly #heardAt = new Map<string, number>()
  readonly #calls = new Map<number, Call>()
  /** The lists of which another process has not fetched all parts, by the process and its call. */
  readonly #kept = new Map<string, Kept>()
  #handler: RequestHandler | undefined
  #lastCall = 0
  #isUp = false
  /** Runs while the others have time to answer the introduction of this process. */
  #introduction: ReplyTimeout | undefined
  /** Whether the others had time to answer it. */
  #isIntroduced = false

  constructor(link: BrokerLink, settings: ReportSettings) {
    this.#link = link
    this.#timer = new ReportTimer(settings, since => this.#onReport(since))
  }

  /** The id of this process. */
  get id(): string {
    return this.#link.origin
  }

  /** Answers the requests of other processes from now on. Called once. */
  serve(handler: RequestHandler): void {
    this.#handler = handler
    void this.#introduce()
    this.#timer.start()
  }

  /** Ends all calls, and announces the end of this process, if the broker accepts that soon. */
  async close(): Promise<void> {
    this.#timer.stop()
    this.#introduction?.cancel()
    for (const key of this.#kept.keys()) this.#forget(key)
    this.#endCalls()
    if (!this.#isUp || this.#handler === undefined) return
    this.#isUp = false
    await new Promise<void>(resolve => {
      const timeout = new ReplyTimeout(INTRODUCTION_TIME, resolve)
      void this.#announce('bye').then(() => {
        timeout.cancel()
        resolve()
      })
    })
  }

  // Calls

  /**
   * Asks all other processes, and resolves when they have answered, at the latest at the deadline. It never rejects.
   * @param message the message of a request to send one.
   * @param isEnough whether an answer ends the call.
   */
  ask(
    request: Request,
    message?: Publication,
    isEnough: (answer: Answer) => boolean = isNeverEnough
  ): Promise<Replies> {
    const call = ++this.#lastCall
    const replies = this.#call(call, { awaited: this.#heardAt.keys(), isOpen: true, isEnough })
    this.#send(call, 'request', '', encodeMessage({ ...request, call }, message), error => {
      if (message !== undefined) this.#link.reportLost('', error)
    })
    this.#calls.get(call)?.check(this.#isIntroduced)
    return replies
  }

  /** Asks some processes for the next part of the list of a call. */
  askForMore(call: number, processes: readonly string[]): Promise<Replies> {
    const replies = this.#call(call, { awaited: processes, isOpen: false, isEnough: isNeverEnough })
    for (const process of processes) this.#send(call, 'reply', process, encodeMessage({ type: 'more', call }))
    return replies
  }

  #call(call: number, options: Omit<CallOptions, 'onEnd'>): Promise<Replies> {
    return new Promise(resolve => {
      const pending = new Call({
        ...options,
        onEnd: isComplete => {
          this.#calls.delete(call)
          resolve({ call, answers: pending.answers, isComplete })
        }
      })
      this.#calls.set(call, pending)
    })
  }

  /** A request that the broker does not accept gets no answers. */
  #send(
    call: number,
    kind: 'request' | 'reply',
    topic: string,
    publication: Publication,
    onError: (error: Error) => void = () => {}
  ): void {
    const pending = this.#calls.get(call)
    this.#link.publish(kind, topic, publication).catch((error: Error) => {
      onError(error)
      if (this.#calls.get(call) === pending) pending?.end(false)
    })
  }

  #endCalls(): void {
    for (const call of this.#calls.values()) call.end(false)
  }

  // The messages of other processes

  onPublication({ origin, payload, isBinary, compress }: RemotePublication): void {
    const decoded = decodeMessage(payload)
    if (decoded === undefined || this.#handler === undefined) return
    const { message, body } = decoded
    if (this.#heardAt.has(origin)) this.#heardAt.set(origin, performance.now())
    switch (message.type) {
      case 'hello':
        this.#heardAt.set(origin, performance.now())
        this.#reply(origin, { type: 'alive' })
        break
      case 'alive':
        if (!this.#heardAt.has(origin)) this.#onProcess(origin)
        break
      case 'bye':
        this.#onLeave(origin)
        break
      case 'answer':
        this.#calls.get(message.call)?.onAnswer(origin, message, this.#isIntroduced)
        break
      case 'more':
        this.#continue(origin, message.call)
        break
      default:
        this.#answer(
          origin,
          message.call,
          this.#handler.onRequest(message, { payload: body, isBinary, compress })
        )
    }
  }

  #onProcess(origin: string): void {
    this.#heardAt.set(origin, performance.now())
    for (const call of this.#calls.values()) call.onProcess(origin)
  }

  #onLeave(origin: string): void {
    this.#heardAt.delete(origin)
    for (const call of this.#calls.values()) call.onLeave(origin, this.#isIntroduced)
  }

  #answer(origin: string, call: number, { count, parts, report }: Result): void {
    const { connections, more } = parts?.next() ?? { connections: [], more: false }
    if (parts !== undefined && more) this.#keep(`${origin} ${call}`, count, parts)
    this.#reply(origin, { type: 'answer', call, count, connections, more, report })
  }

  #keep(key: string, count: number, parts: Parts): void {
    const [oldest] = this.#kept.keys()
    if (this.#kept.size >= MAX_KEPT && oldest !== undefined) this.#forget(oldest)
    const timeout = new ReplyTimeout(KEEP_TIME, () => this.#kept.delete(key))
    this.#kept.set(key, { count, parts, timeout })
  }

  #forget(key: string): void {
    this.#kept.get(key)?.timeout.cancel()
    this.#kept.delete(key)
  }

  #continue(origin: string, call: number): void {
    const key = `${origin} ${call}`
    const kept = this.#kept.get(key)
    if (kept === undefined) return
    this.#forget(key)
    this.#answer(origin, call, kept)
  }

  // The state of the other processes, and of this one

  /** The broker has connected. */
  onUp(): void {
    this.#isUp = true
    const now = performance.now()
    // Nothing could be heard meanwhile.
    for (const origin of this.#heardAt.keys()) this.#heardAt.set(origin, now)
    void this.#introduce()
  }

  /** The broker is disconnected: no answer will come. */
  onDown(): void {
    this.#isUp = false
    this.#isIntroduced = false
    this.#introduction?.cancel()
    this.#endCalls()
  }

  /** Messages of other processes arrive again. */
  onRestored(): void {
    void this.#introduce()
  }

  /** Asks the other processes to introduce themselves, once their answers can arrive. */
  async #introduce(): Promise<void> {
    if (!this.#isUp || this.#handler === undefined) return
    try {
      await Promise.all([this.#link.subscribe('request', ''), this.#link.subscribe('reply', this.id)])
    } catch {
      // The link tries again.
      return
    }
    await this.#announce('hello')
    this.#introduction?.cancel()
    if (!this.#isUp) return
    this.#introduction = new ReplyTimeout(INTRODUCTION_TIME, () => {
      this.#isIntroduced = true
      for (const call of this.#calls.values()) call.check(true)
    })
  }

  #onReport(since: number): void {
    if (!this.#isUp) return
    for (const [origin, heardAt] of this.#heardAt) if (heardAt < since) this.#onLeave(origin)
    void this.#announce('alive')
  }

  /** The next report repairs losses. */
  async #announce(type: 'hello' | 'alive' | 'bye'): Promise<void> {
    await this.#link.publish('request', '', encodeMessage({ type })).catch(() => {})
  }

  #reply(origin: string, message: ProcessMessage): void {
    this.#link.publish('reply', origin, encodeMessage(message)).catch(() => {})
  }
}

function isNeverEnough(): boolean {
  return false
}
