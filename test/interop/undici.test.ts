import t from 'tap'
import { WebSocket } from 'undici'
import { play } from './conversation.js'
import { testPeer } from './scenarios.js'

testPeer(t, 'undici', async () => ({
  play: (script, origin) =>
    play(
      class extends WebSocket {
        constructor(url: string, protocols: string[]) {
          super(url, { protocols, headers: { origin } })
        }
      },
      script
    )
}))
