/** Pre-tokenizers: how the text is cut before the model sees it. */

import type { Field } from './field.js'
import { cover, find_pattern, parse_pattern, type Stretch } from './pattern.js'
import type { Piece, PreTokenizer } from './types.js'
import { white_space_runs } from './whitespace.js'

/** The pre-tokenizer of a tokenizer.json. Types that are not known to give the reference's pieces are refused by name. */
export function create_pre_tokenizer(field: Field): PreTokenizer | null {
  if (field.absent) return null
  switch (field.get('type').string()) {
    case 'Sequence': {
      const steps = field.get('pretokenizers').fields().map(create_pre_tokenizer)
      return (piece) => steps.reduce((pieces, step) => (step === null ? pieces : pieces.flatMap(step)), [piece])
    }
    case 'WhitespaceSplit':
      return (piece) =>
        cut(
          piece,
          cover(piece.text, white_space_runs(piece.text)).filter(({ matched }) => !matched),
        )
    case 'Metaspace':
      return create_metaspace(field)
    case 'Split': {
      const pattern = parse_pattern(field.get('pattern'))
      const invert = field.get('invert').boolean(false)
      const join = BEHAVIORS[field.get('behavior').one_of(BEHAVIOR_NAMES)]
      return (piece) => {
        const stretches = find_pattern(pattern, piece.text)
        return cut(
          piece,
          join(invert ? stretches.map((stretch) => ({ ...stretch, matched: !stretch.matched })) : stretches),
        )
      }
    }
    default:
      return field.get('type').fail('a pre-tokenizer that is supported (WhitespaceSplit, Metaspace, Split, Sequence)')
  }
}

/** The scheme by which a space is put before a word that has none. Files from before it existed say `add_prefix_space`. */
export function prepend_scheme(field: Field): 'always' | 'first' | 'never' {
  const scheme = field.get('prepend_scheme').one_of(['always', 'first', 'never'], 'always')
  return field.get('add_prefix_space').boolean(true) ? scheme : 'never'
}

/** The one character that stands for a space. */
export function metaspace_replacement(field: Field): string {
  const replacement = field.get('replacement')
  if ([...replacement.string()].length !== 1) replacement.fail('one character')
  return replacement.string()
}

function create_metaspace(field: Field): PreTokenizer {
  const replacement = metaspace_replacement(field)
  const scheme = prepend_scheme(field)
  const split = field.get('split').boolean(true)
  return ({ text, first }) => {
    let marked = text.replaceAll(' ', replacement)
    if ((scheme === 'always' || (scheme === 'first' && first)) && !marked.startsWith(replacement))
      marked = replacement + marked
    const piece = { text: marked, first }
    return split ? cut(piece, BEHAVIORS.MergedWithNext(find_pattern(replacement, marked))) : [piece]
  }
}

function cut({ text, first }: Piece, stretches: { start: number; end: number }[]): Piece[] {
  return stretches
    .filter(({ start, end }) => start < end)
    .map(({ start, end }) => ({ text: text.slice(start, end), first: first && start === 0 }))
}

const BEHAVIOR_NAMES = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'] as const

/** What becomes of the matches. */
const BEHAVIORS: Record<(typeof BEHAVIOR_NAMES)[number], (stretches: Stretch[]) => Stretch[]> = {
  Removed: (stretches) => stretches.filter(({ matched }) => !matched),
  Isolated: (stretches) => stretches,
  Contiguous: (stretches) => join(stretches, (stretch, before) => stretch.matched === before.matched),
  MergedWithPrevious: (stretches) => join(stretches, (stretch, before) => stretch.matched && !before.matched),
  MergedWithNext: (stretches) =>
    mirror(join(mirror(stretches), (stretch, before) => stretch.matched && !before.matched)),
}

/** Joins a stretch to what is before it where `joins` says so of the two. */
function join(stretches: Stretch[], joins: (stretch: Stretch, before: Stretch) => boolean): Stretch[] {
  const joined: Stretch[] = []
  for (const [index, stretch] of stretches.entries()) {
    if (index > 0 && joins(stretch, stretches[index - 1]!)) joined[joined.length - 1]!.end = stretch.end
    else joined.push({ ...stretch })
  }
  return joined
}

/** The same stretches read from the end: an involution, so that joining backwards is joining. */
function mirror(stretches: Stretch[]): Stretch[] {
  return stretches.map(({ start, end, matched }) => ({ start: -end, end: -start, matched })).reverse()
}
