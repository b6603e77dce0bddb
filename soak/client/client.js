import { connect } from 'node:net'
import { BINARY, CLOSE, clientFrame, FIN, PING, PONG, RSV1, TEXT } from '../../bench/load/frame.js'
import { makeMessage, readHead } from '../message.js'
import { Sequence } from '../sequence.js'
import { codecFor } from './codec.js'
import { FrameReader } from './frame-reader.js'

const NO_STATUS = 1005
const NOTHING = Buffer.alloc(0)

/** A timeout, or an event that must not happen. */
export class Problem extends Error {
  /**
   * @param {'stuck' | 'lost' | 'wrong'} kind
   * @param {string} message
   */
  constructor(kind, message) {
    super(message)
    this.kind = kind
  }
}

/** A client on a plain socket, whose user controls every byte and its timing. */
export class Client {
  #socket
  #random
  #patience
  #reader = new FrameReader(frame => this.#onFrame(frame))
  /** @type {import('./codec.js').Codec | undefined} */
  #codec
  #head = ''
  /** @type {import('./frame-reader.js').Frame[]} */
  #fragments = []
  /** @type {{ predicate: () => boolean, settle: () => void, fail: (error: unknown) => void } | undefined} */
  #waiter
  #isMute = false
  /** Pongs that are queued until the current frame is written. */
  #held = /** @type {Buffer[] | undefined} */ (undefined)
  /** The status of the server's answer. */
  status = 0
  /** The violation of the server, if there is one. */
  failure = /** @type {unknown} */ (undefined)
  sent = 0
  /** Bytes of messages that were sent and received. */
  bytes = 0
  pings = 0
  /** The number of the last ping that was answered. */
  lastPong = 0
  echoes = new Sequence()
  pushes = new Sequence(null)
  /** The code of the server's Close frame. */
  closeCode = /** @type {number | undefined} */ (undefined)
  /** The error or end of TCP, if there is one. */
  socketError = 'none'
  /** The server has ended its side, or has reset the connection. */
  isOver = false

  /**
   * @param {{ id: number, port: number, localAddress: string | undefined, patience: number, random: import('../random.js').Random }} options
   */
  constructor({ id, port, localAddress, patience, random }) {
    this.id = id
    this.#random = random
    this.#patience = patience
    const socket = connect({ port, host: '127.0.0.1', localAddress, noDelay: true, allowHalfOpen: true })
    this.#socket = socket
    socket.on('connect', () => this.#onChange())
    socket.on('data', chunk => this.#try(() => this.#onData(chunk)))
    socket.on('end', () => {
      socket.end()
      this.#onOver()
    })
    socket.on('close', () => this.#onOver())
    socket.on('error', error => {
      this.socketError = 'code' in error ? String(error.code) : error.message
    })
  }

  get connected() {
    return this.#socket.readyState === 'open'
  }

  /**
   * Resolves when the predicate is true. It is checked after each event.
   * @param {string} what
   * @param {() => boolean} predicate
   * @param {'stuck' | 'lost'} kind of the problem when it does not become true.
   * @param {() => number} extraTime milliseconds beyond the patience, asked when the patience ends.
   * @returns {Promise<void>}
   */
  until(what, predicate, kind = 'stuck', extraTime = () => 0) {
    return new Promise((resolve, reject) => {
      const start = performance.now()
      const onTimeout = () => {
        const left = start + this.#patience + extraTime() - performance.now()
        if (left > 0) timer = setTimeout(onTimeout, left)
        else fail(new Problem(kind, `${what}: not in time`))
      }
      let timer = setTimeout(onTimeout, this.#patience)
      const done = () => {
        clearTimeout(timer)
        this.#waiter = undefined
      }
      const settle = () => {
        done()
        resolve()
      }
      const fail = (/** @type {unknown} */ error) => {
        done()
        reject(error)
      }
      this.#waiter = { predicate, settle, fail }
      this.#onChange()
    })
  }

  /** Bytes that the server has sent. */
  get bytesRead() {
    return this.#socket.bytesRead
  }

  /** @param {string | Buffer} bytes */
  write(bytes) {
    this.#socket.write(bytes)
  }

  /**
   * Writes bytes in pieces, with a pause after each.
   * @param {Buffer[]} pieces
   * @param {() => Promise<void>} pause
   */
  async writePieces(pieces, pause) {
    this.#held = []
    for (const piece of pieces) {
      this.write(piece)
      await pause()
    }
    const held = this.#held
    this.#held = undefined
    for (const pong of held) this.write(pong)
  }

  /** @param {Buffer} payload */
  #sendPong(payload) {
    const pong = this.frame(FIN | PONG, payload)
    if (this.#held === undefined) this.write(pong)
    else this.#held.push(pong)
  }

  /**
   * The frames of the next messages, some of them in fragments with pings between, some compressed.
   * @param {number} count
   * @param {boolean} withPings
   */
  messages(count, withPings = true) {
    const frames = []
    for (let i = 0; i < count; i++) {
      const { data, isBinary } = makeMessage(this.id, this.sent++)
      this.bytes += data.length
      const isCompressed = this.#codec !== undefined && this.#random.chance(0.6)
      const payload = isCompressed && this.#codec !== undefined ? this.#codec.deflate(data) : data
      const first = (isBinary ? BINARY : TEXT) | (isCompressed ? RSV1 : 0)
      frames.push(...this.#framesOf(first, payload, withPings))
    }
    return Buffer.concat(frames)
  }

  /**
   * @param {number} first
   * @param {Buffer} payload
   * @param {boolean} withPings
   */
  #framesOf(first, payload, withPings) {
    const pieces = this.#random.chance(0.8) ? 1 : this.#random.between(2, 5)
    const frames = []
    let at = 0
    for (let piece = 1; piece <= pieces; piece++) {
      const end = piece === pieces ? payload.length : this.#random.between(at, payload.length)
      const byte = (piece === 1 ? first : 0) | (piece === pieces ? FIN : 0)
      frames.push(this.frame(byte, payload.subarray(at, end)))
      if (withPings && piece < pieces && this.#random.chance(0.3)) frames.push(this.ping())
      at = end
    }
    return frames
  }

  ping() {
    return this.frame(FIN | PING, Buffer.from(String(++this.pings)))
  }

  /**
   * @param {number | undefined} code
   * @param {string} reason
   */
  close(code, reason = '') {
    const body = code === undefined ? NOTHING : Buffer.from([code >> 8, code & 255, ...Buffer.from(reason)])
    return this.frame(FIN | CLOSE, body)
  }

  /**
   * @param {number} first
   * @param {Buffer} payload
   */
  frame(first, payload) {
    const key = this.#random.between(0, 2 ** 32 - 1)
    return clientFrame(first, payload, [key >>> 24, (key >>> 16) & 255, (key >>> 8) & 255, key & 255])
  }

  /** Stops reading, and so answers nothing. */
  stall() {
    this.#socket.pause()
  }

  resume() {
    this.#socket.resume()
  }

  /** Stops answering pings and Close frames. */
  mute() {
    this.#isMute = true
  }

  /** Ends this side, and still reads. */
  halfClose() {
    this.#socket.end()
  }

  reset() {
    this.#socket.resetAndDestroy()
  }

  destroy() {
    this.#socket.destroy()
    this.#codec?.close()
    this.#codec = undefined
  }

  #onChange() {
    const waiter = this.#waiter
    if (waiter === undefined) return
    try {
      if (this.failure !== undefined) throw this.failure
      if (waiter.predicate()) waiter.settle()
    } catch (error) {
      waiter.fail(error)
    }
  }

  #onOver() {
    this.isOver = true
    this.#onChange()
  }

  /** @param {() => void} work */
  #try(work) {
    try {
      work()
    } catch (error) {
      this.failure ??= error
    }
    this.#onChange()
  }

  /** @param {Buffer} chunk */
  #onData(chunk) {
    if (this.status !== 0) {
      if (this.status === 101) this.#reader.push(chunk)
      return
    }
    const before = this.#head.length
    this.#head += chunk.toString('latin1')
    const end = this.#head.indexOf('\r\n\r\n')
    if (end === -1) return
    this.status = Number(this.#head.slice(9, 12))
    const extensions = /^sec-websocket-extensions: *(.*)$/im.exec(this.#head.slice(0, end))?.[1]
    if (extensions !== undefined) this.#codec = codecFor(extensions)
    this.#head = ''
    const rest = chunk.subarray(end + 4 - before)
    if (this.status === 101 && rest.length > 0) this.#reader.push(rest)
  }

  /** @param {import('./frame-reader.js').Frame} frame */
  #onFrame(frame) {
    const { opcode, payload } = frame
    if (this.closeCode !== undefined) throw new Problem('wrong', 'a frame behind the Close frame')
    if (opcode === PING) {
      if (!this.#isMute) this.#sendPong(payload)
    } else if (opcode === PONG) {
      // The heartbeat sends one without data as a sign of life, RFC 6455 section 5.5.3.
      if (payload.length > 0) this.#onPong(Number(payload.toString()))
    } else if (opcode === CLOSE) this.closeCode = payload.length === 0 ? NO_STATUS : payload.readUInt16BE(0)
    else this.#onFragment(frame)
  }

  /**
   * The last of several pings is answered, RFC 6455 section 5.5.2.
   * @param {number} number
   */
  #onPong(number) {
    if (!(number > this.lastPong && number <= this.pings)) throw new Problem('wrong', `a pong «${number}»`)
    this.lastPong = number
  }

  /** @param {import('./frame-reader.js').Frame} frame */
  #onFragment(frame) {
    this.#fragments.push(frame)
    if (!frame.fin) return
    const [{ opcode, rsv1 }] = this.#fragments
    const whole = Buffer.concat(this.#fragments.map(({ payload }) => payload))
    this.#fragments = []
    if (rsv1 && this.#codec === undefined) throw new Problem('wrong', 'a compressed message')
    this.#onMessage(rsv1 && this.#codec !== undefined ? this.#codec.inflate(whole) : whole, opcode === BINARY)
  }

  /**
   * @param {Buffer} data
   * @param {boolean} isBinary
   */
  #onMessage(data, isBinary) {
    this.bytes += data.length
    const { kind, seq } = readHead(data)
    if (kind === 'b') this.pushes.accept(seq)
    else this.echoes.acceptMessage(data, isBinary, this.id)
  }
}
