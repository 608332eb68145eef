/** The browser that tests run in: Debian's Chromium, installed when it is missing. */

import { existsSync } from 'node:fs'
import { output, run, StepError, say } from './steps.mjs'

const CHROMIUM = process.env.SWITCH_CHROMIUM ?? '/usr/bin/chromium'

export function require_chromium() {
  if (existsSync(CHROMIUM)) return
  if (process.env.SWITCH_CHROMIUM || output('apt-get', ['--version']) === null || process.getuid?.() !== 0) {
    throw new StepError(
      `no browser at ${CHROMIUM}: run "apt-get install chromium" as root, or set SWITCH_CHROMIUM to a Chromium's path`,
    )
  }
  say('installing the Debian package chromium, for tests in a browser')
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  run('apt-get', ['update', '-qq'], { env })
  run('apt-get', ['install', '-y', '-qq', '--no-install-recommends', 'chromium'], { env })
}
