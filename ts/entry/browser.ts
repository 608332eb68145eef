/** The library in browsers and other places without Node. */

import { set_backend_platform } from '../backend/platform.js'
import { browser_backend_platform } from '../backend/platform_browser.js'
import { browser_platform } from '../hub/browser.js'
import { set_platform } from '../hub/index.js'

set_backend_platform(browser_backend_platform)
set_platform(browser_platform)

export * from '../index.js'
