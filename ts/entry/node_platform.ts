/** What the library needs of Node. */

import { set_backend_platform } from '../backend/platform.js'
import { node_backend_platform } from '../backend/platform_node.js'
import { set_platform } from '../hub/index.js'
import { node_platform } from '../hub/node.js'
import { set_training_platform } from '../training/platform.js'
import { set_file_writer } from '../utils/files.js'
import { node_file_writer } from '../utils/node_files.js'

/** Says how this platform starts backends, reads models and writes files. To be called before anything else. */
export function use_node_platform(): void {
  set_backend_platform(node_backend_platform)
  set_platform(node_platform)
  set_file_writer(node_file_writer)
  set_training_platform(async () => (await import('../training/platform_node.js')).node_training_platform)
}
