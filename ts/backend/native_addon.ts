/** The addon's generated types against the contract's. */

import type * as Addon from '../../bindings/node/index.js'
import type { NativeBinding } from './contract.js'

/** The addon as the contract has it; that this compiles is the check. */
export function as_binding(addon: typeof Addon): NativeBinding {
  return addon
}
