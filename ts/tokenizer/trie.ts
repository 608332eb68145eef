/** Pieces by their UTF-16 units, in flat arrays: a vocabulary of 32,000 is built in a few milliseconds. */

/** Total UTF-16 units of all pieces: five times what a 250,000-piece vocabulary has. Bounds the memory. */
export const MAX_TRIE_UNITS = 8_000_000

export class Trie {
  /** Open addressing: a slot's key is `node * 65536 + unit + 1`, 0 when free. */
  #keys: Float64Array
  #children: Int32Array
  #pieces: Int32Array
  #nodes = 1

  /** @param units Total UTF-16 units of the pieces to come, which bounds the number of nodes. */
  constructor(units: number) {
    let slots = 16
    while (slots < units * 2) slots *= 2
    this.#keys = new Float64Array(slots)
    this.#children = new Int32Array(slots)
    this.#pieces = new Int32Array(units + 1).fill(-1)
  }

  add(piece: string, id: number): void {
    let node = 0
    for (let index = 0; index < piece.length; ++index) {
      const slot = this.#slot(node, piece.charCodeAt(index))
      if (this.#keys[slot] === 0) {
        this.#keys[slot] = node * 65_536 + piece.charCodeAt(index) + 1
        this.#children[slot] = this.#nodes++
      }
      node = this.#children[slot]!
    }
    this.#pieces[node] = id
  }

  /** The node that `unit` leads to, or -1. The root is 0. */
  child(node: number, unit: number): number {
    const slot = this.#slot(node, unit)
    return this.#keys[slot] === 0 ? -1 : this.#children[slot]!
  }

  /** The piece that ends at a node, or -1. */
  piece(node: number): number {
    return this.#pieces[node]!
  }

  #slot(node: number, unit: number): number {
    const mask = this.#keys.length - 1
    const key = node * 65_536 + unit + 1
    let hash = Math.imul(node ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(unit + 1, 0xc2b2ae35)
    hash ^= hash >>> 15
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      if (this.#keys[slot] === 0 || this.#keys[slot] === key) return slot
    }
  }
}
