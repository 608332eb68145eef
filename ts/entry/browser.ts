/** The library in browsers and other places without Node. */

import { set_backend_platform } from '../backend/platform.js'
import { browser_backend_platform } from '../backend/platform_browser.js'
import { browser_platform } from '../hub/browser.js'
import { set_platform } from '../hub/index.js'
import { set_training_platform } from '../training/platform.js'

set_backend_platform(browser_backend_platform)
set_platform(browser_platform)
set_training_platform(async () => (await import('../training/platform_browser.js')).browser_training_platform)

export * from '../index.js'
