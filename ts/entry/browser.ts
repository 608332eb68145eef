/** The library in browsers and other places without Node. */

import { set_backend_platform } from '../backend/platform.js'
import { browser_backend_platform } from '../backend/platform_browser.js'

set_backend_platform(browser_backend_platform)

export * from '../index.js'
