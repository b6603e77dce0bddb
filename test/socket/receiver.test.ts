import { once } from 'node:events'
import t from 'tap'
import { setTransfer } from '../helpers/transfer.js'
import { frame } from '../protocol/wire.js'
import { connect, KINDS, MIB, roundTrip } from './harness.js'

const letters = 'abcdefghijklmnopqrstuvwxyz'
const part = (i: number): string => letters.slice(i, i + 1).repeat(MIB / 2)
const WHOLE = part(0) + part(1) + part(2) + part(3)

for (const over of KINDS)
  t.test(
    `over ${over}: a large message arrives unchanged, and its chunks are freed only on a plain socket`,
    async t => {
      const freed = setTransfer(t, true)
      const { socket, peer } = await connect(t, { over, maxPayload: 4 * MIB })
      const send = (i: number): void => {
        const opcode = i === 0 ? 1 : 0
        peer.stream.write(frame(opcode, part(i), { fin: i === 3 }))
      }
      for (let i = 0; i < 4; i++) send(i)
      const [whole] = await once(socket, 'message')
      t.equal(String(whole) === WHOLE, true)
      if (over === 'net') t.ok(freed() > MIB, `${freed()} bytes`)
      else t.equal(freed(), 0)
      send(0)
      send(1)
      await roundTrip(t, over)
      socket.pause()
      send(2)
      send(3)
      await roundTrip(t, over)
      const second = once(socket, 'message')
      socket.resume()
      const [paused] = await second
      t.equal(String(paused) === WHOLE, true)
      t.equal(String(whole) === WHOLE, true, 'the first one has not changed')
    }
  )
