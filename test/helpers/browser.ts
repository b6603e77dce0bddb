import { type Browser, chromium } from 'playwright-core'
import { program } from './program.js'
import { ms } from './timeout.js'

const { path: executablePath, skip } = program('Chromium', '/usr/bin/chromium')

const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync'
]

/** The reason to skip the browser tests, for tap's `skip` option; false when they run. */
export const browserSkip: string | false = skip

/**
 * A headless Chromium, closed when `t` ends.
 * @param flags further flags of its command line.
 */
export async function launchBrowser(
  t: { teardown(fn: () => Promise<void>): unknown },
  flags: readonly string[] = []
): Promise<Browser> {
  const args = [...FLAGS, ...flags]
  const browser = await chromium.launch({ executablePath, args, timeout: ms(30_000) })
  t.teardown(() => browser.close())
  return browser
}
