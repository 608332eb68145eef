/** How tests start Debian's Chromium: alone, headless, and without a word to anyone outside. */

export const chromium_options = {
  executablePath: process.env.SWITCH_CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
}
