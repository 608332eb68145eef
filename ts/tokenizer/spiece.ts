/**
 * spiece.model, SentencePiece's own file, as the definition that a tokenizer.json would hold.
 * The messages are those of sentencepiece_model.proto; only what a tokenizer is made of is read.
 */

import { TokenizerError } from '../errors.js'
import { check_file_size } from './field.js'
import { ProtobufError, protobuf_fields } from './protobuf.js'

export interface SentencePieceModel {
  /** Pieces and scores, in order of id. */
  vocab: [piece: string, score: number][]
  /** Control symbols (special) and user-defined symbols. */
  symbols: { content: string; special: boolean }[]
  /** The compiled normalisation rules; empty when the text is left as it is. */
  charsmap: Uint8Array
}

const UNIGRAM = 1
const CONTROL = 3
const USER_DEFINED = 4

/** Throws a TokenizerError that names `file` for bytes that are no Unigram SentencePiece model. */
export function parse_spiece(bytes: Uint8Array, file: string): SentencePieceModel {
  check_file_size(bytes, file)
  const model: SentencePieceModel = { vocab: [], symbols: [], charsmap: new Uint8Array() }
  let model_type = UNIGRAM
  try {
    for (const { number, value } of protobuf_fields(bytes)) {
      if (!(value instanceof Uint8Array)) continue
      if (number === 1) read_piece(value, model)
      else if (number === 2) model_type = read_model_type(value)
      else if (number === 3) model.charsmap = read_charsmap(value)
    }
  } catch (cause) {
    if (!(cause instanceof ProtobufError || cause instanceof TypeError)) throw cause
    throw invalid(file, cause instanceof ProtobufError ? cause.message : 'a piece is not UTF-8', cause)
  }
  if (model.vocab.length === 0) throw invalid(file, 'it has no pieces')
  if (model_type !== UNIGRAM)
    throw invalid(file, `its model type is ${model_type}; only Unigram (${UNIGRAM}) is supported`)
  return model
}

function invalid(file: string, reason: string, cause?: unknown): TokenizerError {
  return new TokenizerError(`${file} is not a valid SentencePiece model: ${reason}.`, {
    cause,
    details: { file, reason },
  })
}

function read_piece(bytes: Uint8Array, model: SentencePieceModel): void {
  let piece = ''
  let score = 0
  let type = 1
  for (const { number, value, wire_type } of protobuf_fields(bytes)) {
    if (number === 1 && value instanceof Uint8Array)
      piece = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(value)
    else if (number === 2 && wire_type === 5) score = float_of_bits(value as number)
    else if (number === 3 && wire_type === 0) type = value as number
  }
  if (!Number.isFinite(score)) throw new ProtobufError(`piece ${model.vocab.length} has the score ${score}`)
  model.vocab.push([piece, score])
  if (type === CONTROL || type === USER_DEFINED) model.symbols.push({ content: piece, special: type === CONTROL })
}

/** The compiled rules of a NormalizerSpec. */
function read_charsmap(bytes: Uint8Array): Uint8Array {
  let charsmap = new Uint8Array()
  for (const { number, value } of protobuf_fields(bytes)) {
    if (number === 2 && value instanceof Uint8Array) charsmap = value.slice()
  }
  return charsmap
}

/** The model type of a TrainerSpec. */
function read_model_type(bytes: Uint8Array): number {
  let model_type = UNIGRAM
  for (const { number, value } of protobuf_fields(bytes))
    if (number === 3 && typeof value === 'number') model_type = value
  return model_type
}

function float_of_bits(bits: number): number {
  const view = new DataView(new ArrayBuffer(4))
  view.setUint32(0, bits)
  return view.getFloat32(0)
}
