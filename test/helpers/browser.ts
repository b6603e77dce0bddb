import { existsSync } from 'node:fs'
import { type Browser, chromium } from 'playwright-core'
import { ms } from './timeout.js'

const executablePath = process.env.CHROMIUM_PATH || '/usr/bin/chromium'

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

/** Why the browser tests are skipped, for tap's `skip` option; false where they run. */
export const browserSkip: string | false = skipReason()

/** A headless Chromium, closed when `t` ends. */
export async function launchBrowser(t: { teardown(fn: () => Promise<void>): unknown }): Promise<Browser> {
  const browser = await chromium.launch({ executablePath, args: FLAGS, timeout: ms(30_000) })
  t.teardown(() => browser.close())
  return browser
}

function skipReason(): string | false {
  const { CI, TEST_SKIP_CHROMIUM } = process.env
  // A run that should have had the browser fails at its launch, rather than pass without the tests.
  if (CI && CI !== 'false') return false
  if (TEST_SKIP_CHROMIUM) return TEST_SKIP_CHROMIUM
  return existsSync(executablePath) ? false : `no Chromium at ${executablePath} (CHROMIUM_PATH names another)`
}
