import { isUtf8 } from 'node:buffer'
import { decode, type WireFrame } from '../protocol/wire.js'

/**
 * Returns the errors in the bytes that a server wrote on one connection: HTTP responses, and after a 101 frames of RFC
 * 6455, of which the last may be incomplete.
 */
export function faultOf(output: Buffer): string | undefined {
  let rest = output
  for (;;) {
    const end = rest.indexOf('\r\n\r\n')
    if (end === -1) return undefined
    const head = rest.toString('latin1', 0, end)
    const status = /^HTTP\/1\.1 (\d{3})/.exec(head)?.[1]
    if (status === undefined) return `no response: ${JSON.stringify(head.slice(0, 200))}`
    rest = rest.subarray(end + 4)
    if (status === '101')
      return faultOfFrames(rest, /sec-websocket-extensions: permessage-deflate/i.test(head))
    const length = /^content-length: (\d+)$/im.exec(head)?.[1]
    // No body, or one that is not parsed here.
    if (length === undefined && status !== '100') return undefined
    rest = rest.subarray(Number(length ?? 0))
  }
}

/** The frames after a 101. */
export function framesIn(output: Buffer): WireFrame[] {
  const end = output.indexOf('\r\n\r\n')
  if (end === -1) return []
  const wire = output.subarray(end + 4)
  return decode(wire.subarray(0, endOfFrames(wire)))
}

function faultOfFrames(wire: Buffer, isCompressible: boolean): string | undefined {
  let frames: WireFrame[]
  try {
    frames = decode(wire.subarray(0, endOfFrames(wire)))
  } catch (error) {
    return String(error)
  }
  let text: Buffer[] | undefined
  let isFragmented = false
  for (const [i, { fin, rsv, opcode, key, payload }] of frames.entries()) {
    const where = `frame ${i}, opcode ${opcode}`
    if (key !== undefined) return `${where}: masked`
    if (![0, 1, 2, 8, 9, 10].includes(opcode)) return `${where}: unknown`
    if (rsv !== 0 && !(rsv === 4 && isCompressible && (opcode === 1 || opcode === 2)))
      return `${where}: rsv ${rsv}`
    if (opcode >= 8) {
      if (!fin || payload.length > 125) return `${where}: no control frame`
      if (opcode === 8 && i < frames.length - 1) return `${where}: not the last`
      if (opcode === 8 && wire.length > endOfFrames(wire)) return `${where}: bytes behind it`
      continue
    }
    if ((opcode === 0) !== isFragmented) return `${where}: out of order`
    if (opcode === 1 && rsv === 0) text = []
    text?.push(payload)
    isFragmented = !fin
    if (!fin) continue
    if (text !== undefined && !isUtf8(Buffer.concat(text))) return `${where}: not UTF-8`
    text = undefined
  }
  return undefined
}

/** The end of the last whole frame. */
function endOfFrames(wire: Buffer): number {
  let at = 0
  for (;;) {
    if (wire.length < at + 2) return at
    const short = wire[at + 1] % 128
    const octets = short === 126 ? 2 : short === 127 ? 8 : 0
    if (wire.length < at + 2 + octets) return at
    const length = octets === 0 ? short : Number(`0x${wire.toString('hex', at + 2, at + 2 + octets)}`)
    const end = at + 2 + octets + (wire[at + 1] >= 128 ? 4 : 0) + length
    if (end > wire.length) return at
    at = end
  }
}
