import t from 'tap'
import { browserSkip, launchBrowser } from '../helpers/browser.js'
import { play } from './conversation.js'
import { testPeer } from './scenarios.js'

if (browserSkip !== false) t.pass('Chromium', { skip: browserSkip })
else {
  testPeer(t, 'a page in Chromium connects and exchanges messages', async t => {
    const browser = await launchBrowser(t)
    const page = await browser.newPage()
    return {
      async play(script, origin) {
        await page.goto(origin)
        return await page.evaluate(`(${play})(WebSocket, ${JSON.stringify(script)})`)
      }
    }
  })
}
