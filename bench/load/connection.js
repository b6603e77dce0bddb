import { connect } from 'node:net'
import { PONG } from './batch.js'
import { FrameCounter } from './frame-counter.js'
import { checkResponse } from './opening.js'
import { RawCounter } from './raw-counter.js'

/** All connections read into this buffer: the data is processed before the next read. */
const shared = Buffer.allocUnsafeSlow(262_144)

/**
 * `request` is the opening handshake; without it `connect` does the handshake. On plain TCP without frames, `rawSize` bytes
 * are a message; else it is 0.
 * @typedef {object} Target
 * @property {number} port
 * @property {string | undefined} request
 * @property {boolean} deflate
 * @property {number} rawSize
 * @property {Connect} [connect] TCP by default.
 * @property {string} [localAddress] where to connect from, when one address has too few ports.
 */

/**
 * A byte stream to the server, of which a socket is one.
 * @typedef {{ write(data: Buffer | string): unknown, resetAndDestroy(): unknown }} Link
 */

/**
 * @typedef {object} LinkHandler
 * @property {() => void} onConnect
 * @property {(chunk: Uint8Array, size: number) => void} onRead
 * @property {(error: Error) => void} onError
 * @property {() => void} onEnd
 */

/** @typedef {(target: Target, handler: LinkHandler) => Link} Connect */

/** @type {Connect} */
function connectTcp({ port, localAddress }, { onConnect, onRead, onError, onEnd }) {
  const socket = connect({
    port,
    host: '127.0.0.1',
    localAddress,
    noDelay: true,
    onread: {
      buffer: shared,
      // It bypasses the streams of Node, which cost more than the rest of a read.
      callback: (size, chunk) => {
        onRead(chunk, size)
        return true
      }
    }
  })
  return socket.once('connect', onConnect).once('error', onError).once('end', onEnd)
}

/**
 * @typedef {object} ConnectionHandler
 * @property {(connection: Connection) => void} onOpen
 * @property {(connection: Connection, count: number) => void} onMessages
 */

/** A client connection with minimal work. Errors are thrown, and end the process. */
export class Connection {
  #target
  #handler
  #link
  #counter
  #isOpen = false
  #response = ''
  /** The number of messages that were sent and not answered. */
  pending = 0

  /**
   * @param {Target} target
   * @param {ConnectionHandler} handler
   */
  constructor(target, handler) {
    this.#target = target
    this.#handler = handler
    this.#counter = target.rawSize > 0 ? new RawCounter(target.rawSize) : new FrameCounter()
    this.#link = (target.connect ?? connectTcp)(target, {
      onConnect: () => this.#connected(),
      onRead: (chunk, size) => this.#read(chunk, size),
      onError: error => {
        throw new Error(`a connection was lost: ${error.message}`)
      },
      onEnd: () => {
        throw new Error('the server ended a connection')
      }
    })
  }

  /** Payload bytes received. */
  get bytes() {
    return this.#counter.bytes
  }

  /** @param {Buffer} batch */
  write(batch) {
    this.#link.write(batch)
  }

  /** Resets the connection, so that its port is free immediately. */
  drop() {
    this.#link.resetAndDestroy()
  }

  #connected() {
    if (this.#target.request !== undefined) this.#link.write(this.#target.request)
    else this.#open()
  }

  #open() {
    this.#isOpen = true
    this.#handler.onOpen(this)
  }

  /**
   * @param {Uint8Array} chunk
   * @param {number} size
   */
  #read(chunk, size) {
    const start = this.#isOpen ? 0 : this.#readResponse(chunk, size)
    if (start === size) return
    const messages = this.#counter.push(chunk, start, size)
    if (this.#counter.takePings() > 0) this.#link.write(PONG)
    if (messages > 0) this.#handler.onMessages(this, messages)
  }

  /**
   * @param {Uint8Array} chunk
   * @param {number} size
   * @returns {number} how much of the chunk belongs to the handshake.
   */
  #readResponse(chunk, size) {
    const before = this.#response.length
    this.#response += Buffer.from(chunk.buffer, chunk.byteOffset, size).toString('latin1')
    const end = this.#response.indexOf('\r\n\r\n')
    if (end < 0) return size
    checkResponse(this.#response.slice(0, end + 2), this.#target.deflate)
    this.#response = ''
    this.#open()
    return end + 4 - before
  }
}
