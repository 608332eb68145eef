/** The command line: its commands and what they have in common. */

import { Command } from 'commander'
import { version } from '../../package.json'
import { add_evaluate } from './commands/evaluate.js'
import { add_generate } from './commands/generate.js'
import { add_init } from './commands/init.js'
import { add_inspect } from './commands/inspect.js'
import { add_merge } from './commands/merge.js'
import { add_quantize } from './commands/quantize.js'
import { add_train } from './commands/train.js'
import { add_verify } from './commands/verify.js'
import { EXIT, failure_of } from './exit.js'
import type { Terminal } from './terminal.js'

const AFTER_HELP = `
Exit codes: 0 done; 1 verify found a difference; 2 wrong usage, bad input or nothing that can run it; 130 interrupted (143 by SIGTERM).
Environment: SWITCH_BACKEND (native, wasm), SWITCH_DEBUG (stack traces), HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE.`

/** Runs one command line (without `node` and the script) and gives its exit code. Errors go to stderr as one line. */
export async function run(args: readonly string[], terminal: Terminal, debug = false): Promise<number> {
  let exit_code: number = EXIT.ok
  const program = new Command('switch-transformers')
    .description('Switch Transformers: generate, train, evaluate, inspect, initialise, quantise and verify checkpoints')
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.print(text),
      writeErr: (text) => terminal.note(text),
      // Errors are written once, below, in the form that all errors have.
      outputError: () => {},
    })
    .showSuggestionAfterError()
    .addHelpText('after', AFTER_HELP)
  add_generate(program, terminal)
  add_inspect(program, terminal)
  add_init(program, terminal)
  add_train(program, terminal)
  add_evaluate(program, terminal)
  add_merge(program, terminal)
  add_quantize(program, terminal)
  add_verify(program, terminal, (code) => {
    exit_code = code
  })
  try {
    await program.parseAsync(args, { from: 'user' })
    return exit_code
  } catch (error) {
    if (terminal.signal.aborted) return EXIT.interrupted
    const failure = failure_of(error, debug)
    if (failure.text !== '') terminal.note(failure.text)
    return failure.exit_code
  }
}
