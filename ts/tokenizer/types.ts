/** What the parts of a tokenizer are to each other. */

/** The largest id that the models take. */
export const MAX_ID = 2 ** 31 - 1

export interface Token {
  id: number
  /** What it stands for: a piece, or the text itself where the vocabulary does not know it. */
  value: string
}

/** Turns one piece of normalised text into tokens. */
export interface Model {
  /** Number of entries, added tokens not among them. */
  readonly size: number
  tokenize(text: string): Token[]
  token_to_id(token: string): number | undefined
  id_to_token(id: number): string | undefined
  tokens(): Iterable<[token: string, id: number]>
}

export type Normalizer = (text: string) => string

/** A piece of the text. `first`: it begins where the text begins. */
export interface Piece {
  text: string
  first: boolean
}

export type PreTokenizer = (piece: Piece) => Piece[]

/** Turns tokens into the parts of a text, to be joined. */
export type Decoder = (tokens: string[]) => string[]

/** Reads a file of a checkpoint; `null` when there is none of that name. */
export type FileReader = (file: string) => Promise<Uint8Array | null>
