// The parts of the built protocol core that the micro-benchmarks call. They are internal: when their signatures change, only this
// file has to change.
import { FrameParser } from '../dist/lib/protocol/frame-parser.js'
import { FrameWriter } from '../dist/lib/protocol/frame-writer.js'
import { mask } from '../dist/lib/protocol/mask.js'
import { Utf8Validator } from '../dist/lib/protocol/utf8.js'

export const TEXT_FRAME = 0x81
export const BINARY_FRAME = 0x82

/** The maximum size of a message: more than any benchmark parses. */
const MAX_PAYLOAD = 2 ** 28

/**
 * A server's parser, as a function that takes a chunk, overwrites it, and returns how many messages there were.
 * @returns {(chunk: Buffer) => number}
 */
export function makeParser() {
  let messages = 0
  const count = () => {
    messages++
  }
  const parser = new FrameParser(
    true,
    MAX_PAYLOAD,
    false,
    { onMessage: count, onCompressed: count },
    {
      onControl: () => {},
      onViolation: violation => {
        throw new Error(`the parser found a violation: ${JSON.stringify(violation)}`)
      }
    }
  )
  return chunk => {
    messages = 0
    parser.push(chunk)
    return messages
  }
}

/**
 * A server's writer, as a function that frames a payload and takes the bytes, as at the end of a tick.
 * @param {number} first the frame's first byte
 * @returns {(payload: string | Buffer, count: number) => Buffer[]}
 */
export function makeWriter(first) {
  const writer = new FrameWriter()
  return (payload, count) => {
    for (let i = 0; i < count; i++) writer.write(first, payload)
    return writer.take()
  }
}

/**
 * @param {Uint8Array} bytes they are masked in place.
 * @param {number} key
 */
export function maskBytes(bytes, key) {
  mask(bytes, 0, bytes.length, key, 0)
}

/** @param {Uint8Array} bytes text that arrived in one piece. */
export function validate(bytes) {
  const validator = new Utf8Validator()
  return validator.push(bytes) && validator.end()
}
