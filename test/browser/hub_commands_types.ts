/** What pages know of the commands that Node runs for them. */

import type { PlainFault, PlainFile } from './hub_commands.js'

declare module 'vitest/browser' {
  interface BrowserCommands {
    hub_start(name: string, commit: string, files: Record<string, PlainFile>): Promise<string>
    hub_faults(faults: PlainFault[]): Promise<void>
    next_download(): Promise<{ name: string; size: number; start: string }>
    hub_requests(): Promise<{ path: string; range: string | null }[]>
  }
}
