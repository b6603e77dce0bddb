import { Duplex } from 'node:stream'
import type { Test } from 'tap'
import { Transport } from '../../lib/socket/transport.js'
import type { TransportEvents } from '../../lib/socket/transport-options.js'
import { ms } from '../helpers/timeout.js'
import { bytes } from '../protocol/wire.js'
import { fill, type Options } from './harness.js'

/** A stream whose writes end when the test says so. */
export class ManualStream extends Duplex {
  readonly written: Buffer[] = []
  readonly pending: ((error?: Error | null) => void)[] = []

  override _read(): void {}
  override _writev(chunks: { chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    this.written.push(bytes(...chunks.map(({ chunk }) => chunk)))
    this.pending.push(callback)
  }

  /** Ends the oldest write. */
  finish(error?: Error): void {
    this.pending.shift()?.(error)
  }
}

export class Log implements TransportEvents {
  readonly lines: string[] = []
  onMessage = (data: Buffer): void => void this.lines.push(`message ${data}`)
  onPing = (data: Buffer): void => void this.lines.push(`ping ${data}`)
  onPong = (data: Buffer): void => void this.lines.push(`pong ${data}`)
  onClose = (code: number): void => void this.lines.push(`close ${code}`)
  onFail = (error: Error): void => void this.lines.push(`fail ${Reflect.get(error, 'code')}`)
  onWritten = (): void => void this.lines.push('written')
  onCallbackError = (error: unknown): void => void this.lines.push(`callback ${error}`)
  onEnd = (): void => void this.lines.push('end')
}

export function make(t: Test, closeTimeout = ms(10_000), options: Options = {}) {
  const stream = new ManualStream()
  t.teardown(() => stream.destroy())
  const log = new Log()
  const transport = new Transport(stream, fill({ closeTimeout, ...options }), log)
  const send = (data: string, callback?: (error?: Error) => void): void => {
    transport.connection.send(data, false)
    transport.sent(callback)
  }
  /** Writes down how a send ended. */
  const note = (name: string) => (error?: Error) =>
    void log.lines.push(error ? `${name} ${Reflect.get(error, 'code') ?? error.message}` : name)
  return { stream, log, transport, send, note }
}
