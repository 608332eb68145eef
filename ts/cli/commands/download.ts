/** Progress events of loading, as a bar. */

import type { ModelProgressEvent } from '../../entry/node.js'
import { show_bytes } from '../format.js'
import type { Progress } from '../terminal.js'

/** Shows the total of downloads, then of weights loaded. */
export function download_progress(progress: Progress): (event: ModelProgressEvent) => void {
  return (event) => {
    if (event.status === 'progress_total') {
      progress.update(
        event.loaded,
        event.total,
        `downloading ${show_bytes(event.loaded)} of ${show_bytes(event.total)}`,
      )
    } else if (event.status === 'load') {
      progress.update(event.loaded, event.total, `loading ${show_bytes(event.loaded)} of ${show_bytes(event.total)}`)
    } else if (event.status === 'ready') {
      progress.stop()
    }
  }
}
