/** How many tokens each expert got, as bars with their numbers. */

import { element } from './element.js'
import { DROPPED, paint } from './heat_map.js'

export class Loads {
  /** The table, to be put into the page. */
  node
  /** Per expert (the last: dropped) and layer: the cell and its count. */
  #bars = new Map()
  #most = 1

  constructor(stack, layers, experts) {
    const heads = layers.map((layer) => element('th', { scope: 'col', text: `layer ${layer}` }))
    const rows = [...Array(experts).keys(), DROPPED].map((expert) => {
      const bars = layers.map(() => ({ count: 0, cell: paint(element('td', { class: 'load' }), expert) }))
      this.#bars.set(expert, bars)
      const swatch = element('span', { class: 'swatch', text: expert === DROPPED ? '×' : String(expert) })
      const head = element('th', { scope: 'row' }, [paint(swatch, expert)])
      if (expert === DROPPED) head.append(' dropped')
      return element('tr', {}, [head, ...bars.map(({ cell }) => cell)])
    })
    this.node = element('table', { class: 'loads', 'aria-label': `${stack}: tokens per expert` }, [
      element('thead', {}, [element('tr', {}, [element('th', { scope: 'col', text: 'expert' }), ...heads])]),
      element('tbody', {}, rows),
    ])
    for (const bars of this.#bars.values()) {
      for (const bar of bars) {
        bar.number = element('span', { class: 'count', text: '0' })
        bar.cell.append(element('span', { class: 'bar', 'aria-hidden': 'true' }), bar.number)
      }
    }
  }

  /** Counts a token: the expert of each layer. */
  add({ routes }) {
    for (const [layer, expert] of routes.entries()) {
      const bar = this.#bars.get(expert)[layer]
      bar.count++
      bar.number.textContent = String(bar.count)
      this.#most = Math.max(this.#most, bar.count)
    }
    for (const { count, cell } of [...this.#bars.values()].flat()) {
      cell.style.setProperty('--share', String(count / this.#most))
    }
  }
}
