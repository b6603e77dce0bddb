import { Duplex } from 'node:stream'
import type { Test } from 'tap'
import { EventTargetEmitter } from '../../lib/socket/event-target.js'
import type { WebSocketEvents } from '../../lib/socket/events.js'
import { Receiver } from '../../lib/socket/receiver.js'
import { ms } from '../helpers/timeout.js'
import { bytes } from '../protocol/wire.js'
import { fill, type Options } from './harness.js'

/** A stream whose writes end when the test ends them. */
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

/** Records the events of a connection. */
export class Log {
  readonly lines: string[] = []
  onMessage = (data: Buffer): void => void this.lines.push(`message ${data}`)
  onPing = (data: Buffer): void => void this.lines.push(`ping ${data}`)
  onPong = (data: Buffer): void => void this.lines.push(`pong ${data}`)
  onFail = (error: Error): void => void this.lines.push(`fail ${Reflect.get(error, 'code')}`)
  onCallbackError = (error: unknown): void => void this.lines.push(`callback ${error}`)
  onEnd = (_error: Error | undefined): void => void this.lines.push('end')
}

/** The parts of a connection on a stream, without the public WebSocket. */
export function connectionOn(stream: Duplex, log: Log, options: Options = {}): Receiver {
  const socket = Object.assign(new EventTargetEmitter<WebSocketEvents>(), {
    protocol: '',
    bufferedAmount: 0,
    dropped: 0,
    latency: undefined,
    traffic: { messagesReceived: 0, messagesSent: 0, bytesReceived: 0, bytesSent: 0 }
  })
  socket.on('message', (data: Buffer) => log.onMessage(data))
  socket.on('ping', (data: Buffer) => log.onPing(data))
  socket.on('pong', (data: Buffer) => log.onPong(data))
  const owner = {
    onError: (_socket: unknown, error: unknown) => log.onCallbackError(error),
    onPeerError: (error: Error) => log.onFail(error),
    onClose: (_socket: unknown, _code: number, error: Error | undefined) => log.onEnd(error)
  }
  return new Receiver(socket, stream, fill({ owner, ...options }))
}

export function make(t: Test, closeTimeout = ms(10_000), options: Options = {}) {
  const stream = new ManualStream()
  t.teardown(() => stream.destroy())
  const log = new Log()
  const receiver = connectionOn(stream, log, { closeTimeout, ...options })
  const { connection, sender, lifecycle } = receiver
  const send = (data: string, callback?: (error?: Error) => void): void => {
    connection.output.send(data, false)
    sender.flushSoon(callback)
  }
  /** Makes the consumers want messages or not, effective immediately. */
  const read = (isWanted: boolean): void => {
    receiver.consumers.setPaused(!isWanted)
    receiver.consumers.wanted()
  }
  /** Records the result of a send. */
  const note = (name: string) => (error?: Error) =>
    void log.lines.push(error ? `${name} ${Reflect.get(error, 'code') ?? error.message}` : name)
  return { stream, log, receiver, connection, sender, lifecycle, send, read, note }
}
