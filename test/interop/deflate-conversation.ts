import { EventEmitter, once } from 'node:events'
import type { RawData, WebSocket } from 'ws'
import { withDeadline } from '../helpers/timeout.js'
import { describe, type Letter, type Passage } from './deflate-letters.js'

/** The part of a WebSocket that `ws` and this package share. */
export type Socket = Pick<WebSocket, 'send' | 'ping' | 'close' | 'on' | 'extensions'>

/** One end of a connection, and the events that it received. */
export class End extends EventEmitter {
  readonly socket: Socket
  /** Messages and pings, in order. */
  readonly events: string[] = []
  readonly pongs: string[] = []
  messages = 0
  closed: string | undefined

  constructor(socket: Socket) {
    super()
    this.socket = socket
    socket.on('ping', data => {
      this.events.push(`ping ${data}`)
    })
    socket.on('pong', data => {
      this.pongs.push(String(data))
      this.emit('news')
    })
    socket.on('error', (error: Error) => {
      this.events.push(String(error))
    })
    socket.on('message', (data: RawData, isBinary: boolean) => {
      if (!Buffer.isBuffer(data)) throw new TypeError('no Buffer')
      this.messages++
      this.events.push(describe(data, isBinary))
      this.emit('message', data, isBinary)
      this.emit('news')
    })
    socket.on('close', (code, reason) => {
      this.closed = `${code} ${reason}`.trimEnd()
      this.emit('news')
    })
  }

  /** @param mayClose whether the end of the connection is awaited, too. */
  async until(condition: () => boolean, what: string, mayClose = false): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!condition()) {
        if (!mayClose && this.closed !== undefined)
          throw new Error(`closed with ${this.closed} before ${what}`)
        await once(this, 'news')
      }
    }
    await withDeadline(wait(), 30_000, what)
  }

  send(data: Buffer, isBinary: boolean, { compress, cuts, pings }: Passage): void {
    let start = 0
    for (const [i, end] of [...cuts, data.length].entries()) {
      const fin = i === cuts.length
      const ping = pings[i]
      if (ping !== undefined) this.socket.ping(ping)
      const part = data.subarray(start, end)
      const isWholeText = cuts.length === 0 && !isBinary
      this.socket.send(isWholeText ? String(part) : part, { binary: isBinary, compress, fin })
      start = end
    }
  }

  /** Sends every message back, in the way that its letter describes. */
  echo(letters: readonly Letter[]): void {
    this.on('message', (data: Buffer, isBinary: boolean) => {
      const letter = letters[this.messages - 1]
      if (letter !== undefined) this.send(data, isBinary, letter.back)
    })
  }
}

/** Sends letters, as many at a time as `batches` says; a batch follows after the previous one has come back. */
export async function exchange(
  sender: End,
  letters: readonly Letter[],
  batches: () => number
): Promise<void> {
  for (let sent = 0; sent < letters.length; ) {
    const batch = letters.slice(sent, sent + batches())
    for (const { data, isBinary, there } of batch) sender.send(data, isBinary, there)
    sent += batch.length
    await sender.until(() => sender.messages >= sent, `message ${sent} of ${letters.length}`)
  }
}

/** The expected events of the other end for letters in one direction. */
export function expected(letters: readonly Letter[], way: 'there' | 'back'): string[] {
  return letters.flatMap(({ data, isBinary, [way]: { pings } }) => [
    ...pings.filter(ping => ping !== undefined).map(ping => `ping ${ping}`),
    describe(data, isBinary)
  ])
}

export function pingsOf(letters: readonly Letter[], way: 'there' | 'back'): string[] {
  return letters.flatMap(letter => letter[way].pings.filter(ping => ping !== undefined))
}

/** RFC 6455 section 5.5.3: only the latest of several pings must be answered, so pongs may be missing. */
export function answers(pongs: readonly string[], pings: readonly string[]): boolean {
  let at = 0
  for (const pong of pongs) {
    at = pings.indexOf(pong, at) + 1
    if (at === 0) return false
  }
  return pongs.at(-1) === pings.at(-1)
}
