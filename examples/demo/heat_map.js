/** The picture: a grid of tokens × sparse layers whose cells show which expert took the token. */

import { element } from './element.js'

/** Where a token goes whose expert has no room. */
export const DROPPED = -1

/** Colours in styles.css; with more experts they repeat, and the number in the cell tells them apart. */
export const COLOURS = 8

/** What marks a cell as an expert's, or as nobody's. */
export function paint(node, expert) {
  if (expert === DROPPED) node.dataset.dropped = ''
  else node.dataset.colour = String(expert % COLOURS)
  return node
}

/**
 * An ARIA grid of which one cell can be reached with Tab and the others with the arrow keys, and which tells `tooltip`
 * what the cell under the pointer or the focus has to say.
 */
export class HeatMap {
  /** The table, to be put into the page. */
  node
  #stack
  #layers
  #capacity
  #tooltip
  #body = element('tbody')
  /** Per row, what it says beside its experts. */
  #rows = []
  /** [row, column] of the cell that Tab leads to. */
  #current = [0, 0]

  /**
   * @param stack `encoder` or `decoder`.
   * @param layers Numbers of its sparse layers.
   */
  constructor(stack, layers, capacity, tooltip) {
    this.#stack = stack
    this.#layers = layers
    this.#capacity = capacity
    this.#tooltip = tooltip
    const heads = layers.map((layer) => element('th', { scope: 'col', text: `layer ${layer}` }))
    const corner = element('th', { scope: 'col', text: stack === 'encoder' ? 'reads' : 'reads → writes' })
    this.node = element('table', { role: 'grid', class: 'map', 'aria-label': `${stack}: expert of each token` }, [
      element('thead', {}, [element('tr', {}, [corner, ...heads])]),
      this.#body,
    ])
    this.node.addEventListener('keydown', (event) => this.#on_key(event))
    this.node.addEventListener('focusin', ({ target }) => this.#on_focus(target))
    this.node.addEventListener('focusout', () => tooltip.hide())
    this.node.addEventListener('pointerover', ({ target }) => this.#show(target))
    this.node.addEventListener('pointerout', ({ target, relatedTarget }) => {
      if (this.#place_of(target) === null || tooltip.contains(relatedTarget)) return
      tooltip.hide()
      // The pointer takes the tooltip from the focus only for as long as it is on a cell.
      if (this.node.contains(document.activeElement)) this.#show(document.activeElement)
    })
  }

  /** Adds what happened to one token. `next` is what the decoder wrote after it. */
  add({ label, next, routes }) {
    const row = this.#rows.length
    this.#rows.push({ label, routes })
    const said = next === undefined ? [label] : [label, element('span', { class: 'next', text: ` → ${next}` })]
    const cells = routes.map((expert, column) => this.#cell(expert, row, column))
    this.#body.append(element('tr', {}, [element('th', { scope: 'row' }, said), ...cells]))
  }

  #cell(expert, row, column) {
    const first = row === 0 && column === 0
    const cell = element('td', {
      role: 'gridcell',
      tabindex: first ? 0 : -1,
      'aria-label': expert === DROPPED ? 'dropped' : `expert ${expert}`,
      text: expert === DROPPED ? '×' : String(expert),
    })
    return paint(cell, expert)
  }

  #on_key(event) {
    const [row, column] = this.#current
    const [last_row, last_column] = [this.#rows.length - 1, this.#layers.length - 1]
    const moves = {
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      Home: [event.ctrlKey ? 0 : row, 0],
      End: [event.ctrlKey ? last_row : row, last_column],
      PageUp: [0, column],
      PageDown: [last_row, column],
    }
    const to = moves[event.key]
    if (to === undefined || event.altKey || event.metaKey || (event.ctrlKey && !/^(Home|End)$/.test(event.key))) return
    event.preventDefault()
    this.#cell_at(to)?.focus()
  }

  #on_focus(cell) {
    const place = this.#place_of(cell)
    if (place === null) return
    this.#cell_at(this.#current)?.setAttribute('tabindex', '-1')
    cell.setAttribute('tabindex', '0')
    this.#current = place
    this.#show(cell)
  }

  #show(cell) {
    const place = this.#place_of(cell)
    if (place === null) return
    this.#tooltip.show(cell, ...this.#describe(place))
  }

  /** What the cell means, in two lines, and which cells are to be marked: those of its layer that its expert took. */
  #describe([row, column]) {
    const { label, routes } = this.#rows[row]
    const where = `In ${this.#stack} layer ${this.#layers[column]}`
    if (routes[column] === DROPPED) {
      const room = `${this.#capacity} ${this.#capacity === 1 ? 'token' : 'tokens'}`
      return [
        `“${label}” was dropped`,
        `${where} its expert had room for ${room} and was full.`,
        [this.#cell_at([row, column])],
      ]
    }
    const same = this.#same([row, column])
    const others = same.filter((other) => other !== row).map((other) => this.#rows[other].label)
    const company = others.length === 0 ? 'it took no other token' : `it also took ${others.join(', ')}`
    const cells = same.map((other) => this.#cell_at([other, column]))
    return [`Expert ${routes[column]} took “${label}”`, `${where} ${company}.`, cells]
  }

  /** The rows whose token went where this one did, itself included. */
  #same([row, column]) {
    const expert = this.#rows[row].routes[column]
    return [...this.#rows.keys()].filter((other) => this.#rows[other].routes[column] === expert)
  }

  #cell_at([row, column]) {
    // The first cell of a row is its header.
    return column < 0 ? undefined : this.#body.rows[row]?.cells[column + 1]
  }

  #place_of(node) {
    if (node?.getAttribute?.('role') !== 'gridcell') return null
    return [node.parentElement.sectionRowIndex, node.cellIndex - 1]
  }
}
