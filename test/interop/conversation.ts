/** The part of the WebSocket interface that browsers, `ws` and `undici` share. */
interface ClientSocket {
  binaryType: string
  readonly protocol: string
  readonly extensions: string
  onopen: unknown
  onerror: unknown
  onmessage: unknown
  onclose: unknown
  send(data: string | Uint8Array): void
  close(code?: number, reason?: string): void
}

export type ClientWebSocket = new (url: string, protocols: string[]) => ClientSocket

/** The actions of a client. */
export interface Script {
  readonly url: string
  readonly protocols?: string[]
  /** Messages to send in one tick: a text, or the length of a binary message. */
  readonly sends?: readonly (string | number)[]
  /** The number of messages to wait for; by default as many as are sent. */
  readonly awaits?: number
  /** The arguments of `close`; without them, the server closes. */
  readonly close?: readonly [code?: number, reason?: string]
}

/** The result. */
export interface Outcome {
  /** The properties after the handshake; undefined when it failed. */
  opened?: { protocol: string; extensions: string }
  /** The kind, length and checksum of each message. */
  sent: string[]
  received: string[]
  closed: { code: number; reason: string; wasClean: boolean }
}

/** Runs a script. It runs in browsers, so it must not use anything from outside itself. */
export function play(Client: ClientWebSocket, script: Script): Promise<Outcome> {
  const { url, protocols = [], sends = [], awaits = sends.length, close } = script
  const describe = (data: string | Uint8Array): string => {
    let sum = 0
    for (let i = 0; i < data.length; i++) {
      const unit = typeof data === 'string' ? data.charCodeAt(i) : data[i]
      sum = (Math.imul(sum, 31) + unit) >>> 0
    }
    return `${typeof data === 'string' ? 'text' : 'binary'} ${data.length} ${sum}`
  }
  return new Promise(resolve => {
    const outcome: Outcome = { sent: [], received: [], closed: { code: 0, reason: '', wasClean: false } }
    const socket = new Client(url, protocols)
    socket.binaryType = 'arraybuffer'
    const closeIfDone = (): void => {
      if (close !== undefined && outcome.received.length === awaits) socket.close(...close)
    }
    socket.onopen = () => {
      outcome.opened = { protocol: socket.protocol, extensions: socket.extensions }
      for (const one of sends) {
        const data = typeof one === 'string' ? one : Uint8Array.from({ length: one }, (_, i) => (i * 7) % 251)
        outcome.sent.push(describe(data))
        socket.send(data)
      }
      closeIfDone()
    }
    socket.onmessage = ({ data }: { data: string | ArrayBuffer }) => {
      outcome.received.push(describe(typeof data === 'string' ? data : new Uint8Array(data)))
      closeIfDone()
    }
    socket.onerror = () => {}
    socket.onclose = ({ code, reason, wasClean }: Outcome['closed']) => {
      outcome.closed = { code, reason, wasClean }
      resolve(outcome)
    }
  })
}
