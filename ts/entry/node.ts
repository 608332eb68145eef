/** The library in Node. */

import { use_node_platform } from './node_platform.js'

use_node_platform()

export * from '../adapters/index.js'
export * from '../index.js'
export * from '../inspect/index.js'
export * from '../quantize/index.js'
