import { type AddressInfo, isIPv6 } from 'node:net'
import { Duplex } from 'node:stream'
import { setImmediate } from '../limits/deadline.js'

const DESCRIBED = [
  'remoteAddress',
  'remoteFamily',
  'remotePort',
  'localAddress',
  'localFamily',
  'localPort',
  'encrypted'
] as const

/** Bytes that arrive at a time at most, as Node reads them from a network. */
const READ_SIZE = 65_536

/** The protocol that TLS has negotiated, RFC 7301. */
export type AlpnProtocol = 'h2' | 'http/1.1'

/** The addresses of both ends, and whether the connection is encrypted. */
interface Ends {
  readonly local: AddressInfo
  readonly remote: AddressInfo
  readonly encrypted: boolean
}

/**
 * One end of a connection in memory, with the members that an HTTP server and applications use on a socket. Written
 * data arrives at the other end in a later turn of the event loop, as on a network, and is buffered until it is read.
 */
export class MemorySocket extends Duplex {
  readonly remoteAddress: string
  readonly remoteFamily: string
  readonly remotePort: number
  readonly localAddress: string
  readonly localFamily: string
  readonly localPort: number
  /** As on a socket of TLS. */
  readonly encrypted: boolean
  readonly connecting = false
  readonly pending = false
  /** As on a socket of TLS: an HTTP/2 server reads both. */
  alpnProtocol: AlpnProtocol | undefined
  server: object | undefined
  bytesRead = 0
  bytesWritten = 0
  /** Milliseconds without traffic after which `timeout` is emitted; 0 for none. */
  timeout = 0
  readonly #local: AddressInfo
  #peer: MemorySocket = this
  /** Ends the peer's write, which waits until this side reads. */
  #taken: ((error?: Error) => void) | undefined
  #resets = false
  /** The peer sends no more: when it was destroyed, not even data that it had begun to send. */
  #peerEnded = false
  #timer: NodeJS.Timeout | undefined

  private constructor({ local, remote, encrypted }: Ends, allowHalfOpen: boolean) {
    super({ allowHalfOpen })
    this.#local = local
    this.localAddress = local.address
    this.localFamily = local.family
    this.localPort = local.port
    this.remoteAddress = remote.address
    this.remoteFamily = remote.family
    this.remotePort = remote.port
    this.encrypted = encrypted
  }

  /** Both ends of a new connection. */
  static pair(
    address: string,
    encrypted: boolean
  ): { readonly server: MemorySocket; readonly client: MemorySocket } {
    const family = isIPv6(address) ? 'IPv6' : 'IPv4'
    const near: AddressInfo = { address, family, port: nextPort() }
    const far: AddressInfo = {
      address: isIPv6(address) ? '::1' : '127.0.0.1',
      family,
      port: encrypted ? 443 : 80
    }
    const server = new MemorySocket({ local: far, remote: near, encrypted }, true)
    const client = new MemorySocket({ local: near, remote: far, encrypted }, false)
    server.#peer = client
    client.#peer = server
    return { server, client }
  }

  /** The connection is one of a server, with the protocol that TLS would have negotiated. */
  onSecure(server: object, protocol: AlpnProtocol): void {
    this.server = server
    this.alpnProtocol = protocol
  }

  /** Gives another socket the addresses of this one. */
  describe(socket: object): void {
    for (const name of DESCRIBED) Object.defineProperty(socket, name, { value: this[name] })
  }

  override _read(): void {
    const taken = this.#taken
    this.#taken = undefined
    taken?.()
  }

  override _writev(chunks: { chunk: Buffer }[], callback: (error?: Error) => void): void {
    // A copy, as the receiver unmasks frames in place.
    const data = Buffer.concat(chunks.map(({ chunk }) => chunk))
    this.bytesWritten += data.length
    this.#onTraffic()
    setImmediate(() => this.#peer.#receive(data, callback))
  }

  #receive(data: Buffer, taken: (error?: Error) => void): void {
    if (this.destroyed || this.#peerEnded) {
      taken(resetError('write EPIPE', 'EPIPE'))
      return
    }
    const chunk = data.subarray(0, READ_SIZE)
    const rest = data.subarray(READ_SIZE)
    const next = rest.length === 0 ? taken : () => void setImmediate(() => this.#receive(rest, taken))
    this.bytesRead += chunk.length
    this.#onTraffic()
    if (this.push(chunk)) next()
    else this.#taken = next
  }

  override _final(callback: () => void): void {
    setImmediate(() => {
      this.#peer.#receiveEnd()
      callback()
    })
  }

  #receiveEnd(): void {
    this.#peerEnded = true
    if (!this.destroyed) this.push(null)
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    clearTimeout(this.#timer)
    this._read()
    const peer = this.#peer
    setImmediate(() => {
      if (this.#resets) peer.destroy(resetError('read ECONNRESET', 'ECONNRESET'))
      else if (!this.writableFinished) peer.#receiveEnd()
    })
    callback(error)
  }

  destroySoon(): void {
    if (this.writable) this.end()
    if (this.writableFinished) this.destroy()
    else this.once('finish', this.destroy)
  }

  resetAndDestroy(): this {
    this.#resets = true
    return this.destroy()
  }

  setTimeout(timeout: number, listener?: () => void): this {
    this.timeout = timeout
    if (listener !== undefined) this[timeout === 0 ? 'off' : 'once']('timeout', listener)
    this.#onTraffic()
    return this
  }

  #onTraffic(): void {
    clearTimeout(this.#timer)
    if (this.timeout > 0 && !this.destroyed) {
      this.#timer = setTimeout(() => this.emit('timeout'), this.timeout).unref()
    }
  }

  address(): AddressInfo {
    return this.#local
  }

  setNoDelay(): this {
    return this
  }

  setKeepAlive(): this {
    return this
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }
}

const FIRST_PORT = 49_152
const PORTS = 16_384

let ports = 0

/** The ports of clients, as systems assign them. */
function nextPort(): number {
  return FIRST_PORT + (ports++ % PORTS)
}

function resetError(message: string, code: string): Error {
  return Object.assign(new Error(message), { code })
}
