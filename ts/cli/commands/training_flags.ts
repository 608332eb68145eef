/** Flags of `train` and `evaluate` that are options of a training: one for each, from the table that checks them. */

import { type Command, InvalidArgumentError, Option } from 'commander'
import { type ArgumentRule, argument_fault, argument_rules } from '../../training/argument_table.js'
import type { TrainingArguments } from '../../training/arguments.js'

type Name = keyof TrainingArguments

/** Named by a flag of its own. */
const OWN_FLAG: readonly Name[] = ['output_dir', 'report']

const flag_of = (name: string) => `--${name.replaceAll('_', '-')}`

export function add_training_flags(command: Command, leave_out: readonly Name[] = []): Command {
  for (const [name, rule] of Object.entries(argument_rules()) as [Name, ArgumentRule][]) {
    if (OWN_FLAG.includes(name) || leave_out.includes(name)) continue
    const about = `${rule.expected}${rule.default === null ? '' : ` (default: ${JSON.stringify(rule.default)})`}`
    if (rule.kind === 'flag') {
      const long = rule.default === true ? `--no-${name.replaceAll('_', '-')}` : flag_of(name)
      command.addOption(new Option(long, rule.default === true ? `turns ${name} off` : `turns ${name} on`))
      continue
    }
    const option = new Option(`${flag_of(name)} <${rule.kind}>`, about).argParser((text: string) =>
      parse(name, rule, text),
    )
    command.addOption(option)
  }
  return command
}

/** The training options among parsed flags; those not given are left out. */
export function training_flags(command: Command): TrainingArguments {
  const found: Record<string, unknown> = {}
  for (const name of Object.keys(argument_rules())) {
    const key = name.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase())
    if (command.getOptionValueSource(key) === 'cli') found[name] = command.getOptionValue(key)
  }
  return found as TrainingArguments
}

function parse(name: Name, rule: ArgumentRule, text: string): unknown {
  const value = parsed(rule, text)
  const fault = argument_fault(name, value)
  if (fault !== null) throw new InvalidArgumentError(`It must be ${rule.expected}.`)
  return value
}

function parsed(rule: ArgumentRule, text: string): unknown {
  if (text === 'none' && rule.accepts(null)) return null
  switch (rule.kind) {
    case 'integer':
    case 'number':
      return text.trim() === '' ? Number.NaN : Number(text)
    case 'list':
      return text
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part !== '')
    case 'json':
      try {
        return JSON.parse(text)
      } catch {
        throw new InvalidArgumentError(`It must be JSON: ${rule.expected}.`)
      }
    default:
      return text
  }
}
