/**
 * Extended grapheme clusters (UAX #29), which the charsmap normaliser looks up whole.
 *
 * Not `Intl.Segmenter`: some supported engines lack it, and its rules follow the engine's Unicode version, where the
 * conjunct rule GB9c came late. Here only the properties of characters newer than the engine are out of reach.
 */

enum Break {
  Other,
  CR,
  LF,
  Control,
  Extend,
  ZWJ,
  RegionalIndicator,
  Prepend,
  SpacingMark,
  L,
  V,
  T,
  LV,
  LVT,
  Pictographic,
  /** Indic_Conjunct_Break=Consonant. */
  Consonant,
}

const EXTEND = /[\p{Grapheme_Extend}\p{Emoji_Modifier}]/u
const CONTROL = /[\p{Zl}\p{Zp}\p{Cc}\p{Cf}]/u
const IGNORABLE = /\p{Default_Ignorable_Code_Point}/u
const SPACING_MARK = /[\p{Mc}\u0e33\u0eb3]/u
/** Spacing marks that begin a cluster of their own all the same. */
const NOT_SPACING_MARK =
  /[\u102b\u102c\u1038\u1062-\u1064\u1067-\u106d\u1083\u1087-\u108c\u108f\u109a-\u109c\u1a61\u1a63\u1a64\uaa7b\uaa7d\u{11720}\u{11721}]/u
const PREPEND =
  /[\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\u{110bd}\u{110cd}\u{111c2}\u{111c3}\u{113d1}\u{1193f}\u{11941}\u{11a84}-\u{11a89}\u{11d46}\u{11f02}]/u
const PICTOGRAPHIC = /\p{Extended_Pictographic}/u
const LINKER =
  /[\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d\u1039\u17d2\u1a60\u1b44\u1bab\ua9c0\uaaf6\u{10a3f}\u{11133}\u{113d0}\u{1193e}\u{11a47}\u{11a99}\u{11f42}]/u
const CONSONANT =
  /[\u0915-\u0939\u0958-\u095f\u0978-\u097f\u0995-\u09a8\u09aa-\u09b0\u09b2\u09b6-\u09b9\u09dc\u09dd\u09df\u09f0\u09f1\u0a95-\u0aa8\u0aaa-\u0ab0\u0ab2\u0ab3\u0ab5-\u0ab9\u0af9\u0b15-\u0b28\u0b2a-\u0b30\u0b32\u0b33\u0b35-\u0b39\u0b5c\u0b5d\u0b5f\u0b71\u0c15-\u0c28\u0c2a-\u0c39\u0c58-\u0c5a\u0d15-\u0d3a\u1000-\u102a\u103f\u1050-\u1055\u105a-\u105d\u1061\u1065\u1066\u106e-\u1070\u1075-\u1081\u108e\u1780-\u17b3\u1a20-\u1a54\u1b0b\u1b0c\u1b13-\u1b33\u1b45-\u1b4c\u1b83-\u1ba0\u1bae\u1baf\u1bbb-\u1bbd\ua989-\ua98b\ua98f-\ua9b2\ua9e0-\ua9e4\ua9e7-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa6f\uaa71-\uaa73\uaa7a\uaa7e\uaa7f\uaae0-\uaaea\uabc0-\uabda\u{10a00}\u{10a10}-\u{10a13}\u{10a15}-\u{10a17}\u{10a19}-\u{10a35}\u{11103}-\u{11126}\u{11144}\u{11147}\u{11380}-\u{11389}\u{1138b}\u{1138e}\u{11390}-\u{113b5}\u{11900}-\u{11906}\u{11909}\u{1190c}-\u{11913}\u{11915}\u{11916}\u{11918}-\u{1192f}\u{11a00}\u{11a0b}-\u{11a32}\u{11a50}\u{11a5c}-\u{11a83}\u{11f04}-\u{11f10}\u{11f12}-\u{11f33}]/u

const classes = new Map<number, Break>()

function classify(code: number): Break {
  if (code < 0x300) {
    if (code === 0x0d) return Break.CR
    if (code === 0x0a) return Break.LF
    if (code < 0x20 || (code >= 0x7f && code < 0xa0) || code === 0xad) return Break.Control
    return code === 0xa9 || code === 0xae ? Break.Pictographic : Break.Other
  }
  if (code >= 0xac00 && code <= 0xd7a3) return (code - 0xac00) % 28 === 0 ? Break.LV : Break.LVT
  if (code >= 0x3400 && code <= 0x9fff) return Break.Other
  let found = classes.get(code)
  if (found === undefined) {
    found = look_up(code)
    classes.set(code, found)
  }
  return found
}

function look_up(code: number): Break {
  const char = String.fromCodePoint(code)
  if (code === 0x200d) return Break.ZWJ
  if (EXTEND.test(char)) return Break.Extend
  if (PREPEND.test(char)) return Break.Prepend
  if (CONTROL.test(char) || (IGNORABLE.test(char) && /\p{Cn}/u.test(char))) return Break.Control
  if (code >= 0x1f1e6 && code <= 0x1f1ff) return Break.RegionalIndicator
  if ((code >= 0x1100 && code <= 0x115f) || (code >= 0xa960 && code <= 0xa97c)) return Break.L
  if ((code >= 0x1160 && code <= 0x11a7) || (code >= 0xd7b0 && code <= 0xd7c6)) return Break.V
  if (code === 0x16d63 || (code >= 0x16d67 && code <= 0x16d6a)) return Break.V
  if ((code >= 0x11a8 && code <= 0x11ff) || (code >= 0xd7cb && code <= 0xd7fb)) return Break.T
  if (SPACING_MARK.test(char) && !NOT_SPACING_MARK.test(char)) return Break.SpacingMark
  if (PICTOGRAPHIC.test(char)) return Break.Pictographic
  return CONSONANT.test(char) ? Break.Consonant : Break.Other
}

/** The end of the cluster that begins at `start`, in UTF-16 units. `start` must be before the end of `text`. */
export function cluster_end(text: string, start: number): number {
  const first = text.codePointAt(start)!
  let before = classify(first)
  let at = start + (first > 0xffff ? 2 : 1)
  let flags = before === Break.RegionalIndicator ? 1 : 0
  /** 1 after a pictograph and extending characters, 2 once a joiner follows them (GB11). */
  let pictograph = before === Break.Pictographic ? 1 : 0
  /** 1 after a consonant and extending characters, 2 once a linker was among them (GB9c). */
  let conjunct = before === Break.Consonant ? 1 : 0
  while (at < text.length) {
    const code = text.codePointAt(at)!
    const after = classify(code)
    if (breaks(before, after, flags, pictograph, conjunct)) break
    if (after === Break.RegionalIndicator) ++flags
    if (after === Break.Pictographic) pictograph = 1
    else if (after === Break.ZWJ && pictograph === 1) pictograph = 2
    else if (after !== Break.Extend || pictograph === 2) pictograph = 0
    if (after === Break.Consonant) conjunct = 1
    else if (after === Break.Extend || after === Break.ZWJ) {
      // A zero-width non-joiner extends the cluster but keeps consonants apart.
      if (code === 0x200c) conjunct = 0
      else if (conjunct > 0 && LINKER.test(String.fromCodePoint(code))) conjunct = 2
    } else conjunct = 0
    before = after
    at += code > 0xffff ? 2 : 1
  }
  return at
}

/** Whether there is a boundary between two characters of these classes, given what the cluster holds so far. */
function breaks(before: Break, after: Break, flags: number, pictograph: number, conjunct: number): boolean {
  if (before === Break.CR && after === Break.LF) return false
  if (before <= Break.Control && before >= Break.CR) return true
  if (after <= Break.Control && after >= Break.CR) return true
  if (after === Break.Extend || after === Break.ZWJ || after === Break.SpacingMark || before === Break.Prepend)
    return false
  switch (after) {
    case Break.L:
    case Break.LV:
    case Break.LVT:
      return before !== Break.L
    case Break.V:
      return before !== Break.L && before !== Break.V && before !== Break.LV
    case Break.T:
      return before !== Break.V && before !== Break.LV && before !== Break.LVT && before !== Break.T
    case Break.Consonant:
      return conjunct !== 2
    case Break.Pictographic:
      return pictograph !== 2
    case Break.RegionalIndicator:
      return before !== Break.RegionalIndicator || flags % 2 === 0
    default:
      return true
  }
}
