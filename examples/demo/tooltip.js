/** One tooltip for all cells, beside the one that it describes and inside the window. Escape closes it. */

import { element } from './element.js'

const GAP = 6

export class Tooltip {
  #node
  #cell = null
  #related = []

  constructor(node) {
    this.#node = node
    node.addEventListener('pointerleave', () => this.hide())
    document.addEventListener('keydown', ({ key }) => key === 'Escape' && this.hide())
  }

  contains(node) {
    return node instanceof Node && this.#node.contains(node)
  }

  /** Describes `cell` until another is described or it is hidden, and marks the cells that are `related`. */
  show(cell, title, text, related) {
    this.hide()
    this.#cell = cell
    this.#related = related
    cell.setAttribute('aria-describedby', this.#node.id)
    for (const other of related) other.classList.add('same')
    this.#node.replaceChildren(element('strong', { text: title }), ` ${text}`)
    this.#node.hidden = false
    this.#place(cell.getBoundingClientRect(), this.#node.getBoundingClientRect())
  }

  hide() {
    this.#cell?.removeAttribute('aria-describedby')
    for (const other of this.#related) other.classList.remove('same')
    this.#cell = null
    this.#related = []
    this.#node.hidden = true
  }

  /** To the right, so that the pointer can go up and down a column without meeting it; else above or below. */
  #place(cell, own) {
    const { clientWidth, clientHeight } = document.documentElement
    const beside = cell.right + GAP + own.width <= clientWidth
    const above = cell.top - GAP - own.height
    const left = beside ? cell.right + GAP : Math.min(cell.left, clientWidth - own.width - GAP)
    const middle = Math.min(cell.top + (cell.height - own.height) / 2, clientHeight - own.height - GAP)
    const top = beside ? middle : above >= 0 ? above : cell.bottom + GAP
    this.#node.style.setProperty('left', `${Math.max(GAP, left) + scrollX}px`)
    this.#node.style.setProperty('top', `${Math.max(GAP, top) + scrollY}px`)
  }
}
