import { setImmediate } from 'node:timers/promises'
import t from 'tap'
import type { CompressionExtension } from '../../lib/protocol/extension.js'
import { MESSAGE_TOO_BIG } from '../../lib/protocol/violation.js'
import { prepare } from '../../lib/socket/prepared-message.js'
import { frame } from '../protocol/wire.js'
import { connect, type Kind } from './harness.js'

const RSV1 = 4

/** Removes every second byte of a message whose bytes come in pairs: `aabb` is sent as `ab`. */
class PerMessagePairs implements CompressionExtension {
  readonly name = 'permessage-pairs'
  readonly threshold = 4
  closes = 0

  /** @param isAsync whether the results are promises. */
  constructor(isAsync: boolean) {
    const result = (payload: Buffer) => (isAsync ? setImmediate(payload) : payload)
    this.compressor = {
      takesOver: false,
      compress: data => result(Buffer.from([...Buffer.from(data)].filter((_byte, i) => i % 2 === 0)))
    }
    this.decompressor = {
      decompress: (data, limit) =>
        2 * data.length > limit
          ? MESSAGE_TOO_BIG
          : result(Buffer.from([...data].flatMap(byte => [byte, byte])))
    }
  }

  readonly compressor: CompressionExtension['compressor']
  readonly decompressor: CompressionExtension['decompressor']

  close(): void {
    this.closes++
  }
}

for (const isAsync of [false, true]) {
  for (const over of ['net', 'memory'] satisfies Kind[]) {
    t.test(
      `RFC 7692 section 6: another compression extension than permessage-deflate works, ${over}, ${isAsync ? 'later' : 'at once'}`,
      async t => {
        const extension = new PerMessagePairs(isAsync)
        const { socket, peer } = await connect(t, { over, extension, maxPayload: 8 })
        t.equal(socket.extensions, 'permessage-pairs')
        const messages: string[] = []
        const closed = new Promise(resolve => socket.on('close', resolve))
        socket.on('message', data => messages.push(String(data)))

        socket.send('aabb')
        socket.send('ab')
        socket.send('ccdd', { compress: false })
        socket.send(prepare('eeff'))
        await peer.until(() => peer.raw.length === 4, 'four messages')
        t.strictSame(
          peer.raw.map(({ rsv, payload }) => `${rsv} ${payload}`),
          [`${RSV1} ab`, '0 ab', '0 ccdd', `${RSV1} ef`]
        )

        peer.send(frame(1, 'xy', { rsv: RSV1 }), frame(1, 'plain'), frame(1, 'abcde', { rsv: RSV1 }))
        await closed
        t.strictSame(messages, ['xxyy', 'plain'])
        await peer.close()
        t.equal(peer.frames.at(-1), 'close 1009 message too big')
        t.equal(extension.closes, 1)
      }
    )
  }
}
