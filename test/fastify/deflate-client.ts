import { once } from 'node:events'
import { constants, deflateRawSync, inflateRawSync } from 'node:zlib'
import type { Test } from 'tap'
import { WebSocket } from 'ws'
import { connectRaw, handshake, type RawClient, type RawResponse, withDeadline } from '../helpers/app.js'
import { decode, frame, type WireFrame } from '../protocol/wire.js'

// Clients that implement RFC 7692 with node:zlib only.

export const MIB = 2 ** 20

/** The offer of browsers. */
export const BROWSER = 'permessage-deflate; client_max_window_bits'

/** Settings with which messages may refer to earlier ones. */
export const TAKEOVER = { serverNoContextTakeover: false, clientNoContextTakeover: false }

/** The end of each compressed message, which is not sent. */
const TAIL = Buffer.from([0, 0, 0xff, 0xff])

/** RFC 7692 section 7.2.1: flushed, without the tail. */
export function deflated(data: string | Uint8Array, level = 6): Buffer {
  return deflateRawSync(data, { level, finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4)
}

/** RFC 7692 section 7.2.2; throws when a window of `windowBits` is too small. */
export function inflated(data: Uint8Array, windowBits = 15): Buffer {
  const tailed = Buffer.concat([data, TAIL])
  return inflateRawSync(tailed, { windowBits, finishFlush: constants.Z_SYNC_FLUSH })
}

/** Inflates messages that may refer to earlier ones. */
export class Window {
  #wire: Buffer = Buffer.alloc(0)
  #size = 0

  inflated(payload: Uint8Array): Buffer {
    const wire = Buffer.concat([this.#wire, payload])
    const message = inflated(wire).subarray(this.#size)
    this.#wire = Buffer.concat([wire, TAIL])
    this.#size += message.length
    return message
  }
}

/** A masked frame with RSV1 and a compressed payload. */
export function compressedFrame(payload: Uint8Array, opcode = 1): Buffer {
  return frame(opcode, payload, { rsv: 4 })
}

/** The same message in frames of at most `size` bytes. */
export function compressedFrames(payload: Buffer, size: number, opcode = 1): Buffer[] {
  const frames: Buffer[] = []
  for (let at = 0; at < payload.length; at += size) {
    const shape = { fin: at + size >= payload.length, rsv: at === 0 ? 4 : 0 }
    frames.push(frame(at === 0 ? opcode : 0, payload.subarray(at, at + size), shape))
  }
  return frames
}

export interface RawOpen {
  readonly client: RawClient
  readonly response: RawResponse
}

/** A raw client after its 101. */
export async function openRaw(t: Test, port: number, path: string, offer = BROWSER): Promise<RawOpen> {
  const client = await connectRaw(t, port)
  client.write(handshake(path, { 'Sec-WebSocket-Extensions': offer }))
  const response = await client.response()
  if (response.status !== 101) throw new Error(response.head)
  return { client, response }
}

/** Takes the next frame, of any length. */
export async function nextFrame(client: RawClient): Promise<WireFrame> {
  await client.until(() => client.data.length >= frameSize(client.data), 'a frame')
  const size = frameSize(client.data)
  const [first] = decode(client.data.subarray(0, size))
  client.data = client.data.subarray(size)
  if (first === undefined) throw new Error('no frame')
  return first
}

/** The size of the unmasked frame at the start of the data; infinite while its header is incomplete. */
function frameSize(data: Buffer): number {
  if (data.length < 2) return Infinity
  const short = data.readUInt8(1)
  if (short < 126) return 2 + short
  if (short === 126) return data.length < 4 ? Infinity : 4 + data.readUInt16BE(2)
  return data.length < 10 ? Infinity : 10 + Number(data.readBigUInt64BE(2))
}

/** The code and the reason of the next frame, which must be a Close frame. */
export async function nextClose(client: RawClient): Promise<string> {
  const { opcode, payload } = await nextFrame(client)
  if (opcode !== 8) throw new Error(`opcode ${opcode} instead of a Close frame`)
  return `${payload.readUInt16BE(0)} ${payload.subarray(2)}`
}

/** Measures round trips on a separate connection, one every few milliseconds. */
export class Pulse {
  readonly #socket: WebSocket
  #worst = 0
  #count = 0
  #beats = true
  #done: Promise<void> = Promise.resolve()

  constructor(socket: WebSocket) {
    this.#socket = socket
  }

  /** @param path the path of a route that echoes. */
  static async start(t: Test, port: number, path: string): Promise<Pulse> {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { perMessageDeflate: false })
    t.teardown(() => socket.terminate())
    await withDeadline(once(socket, 'open'), 10_000, 'open')
    const pulse = new Pulse(socket)
    pulse.#done = pulse.#beat()
    return pulse
  }

  async #beat(): Promise<void> {
    while (this.#beats) {
      const start = performance.now()
      const answered = once(this.#socket, 'message')
      this.#socket.send(String(this.#count))
      await withDeadline(answered, 30_000, 'echo')
      this.#worst = Math.max(this.#worst, performance.now() - start)
      this.#count++
      await new Promise(resolve => setTimeout(resolve, 2))
    }
  }

  /** The longest round trip in milliseconds, and the number of round trips. */
  async stop(): Promise<{ worst: number; count: number }> {
    this.#beats = false
    await this.#done
    return { worst: this.#worst, count: this.#count }
  }
}
