/** How far a page's texts stand out, as WCAG 2 measures it. */

import type { Page } from 'playwright-core'

export interface TextContrast {
  text: string
  colour: string
  background: string
  /** From 1, the same colour, to 21. */
  ratio: number
}

/** All visible texts with their contrast to the nearest background that is painted. */
export async function contrast_of_texts(page: Page): Promise<TextContrast[]> {
  const found = await page.evaluate(() => {
    const background_of = (node: Element | null): string => {
      if (node === null) return 'rgb(255, 255, 255)'
      const { backgroundColor } = getComputedStyle(node)
      return backgroundColor === 'rgba(0, 0, 0, 0)' ? background_of(node.parentElement) : backgroundColor
    }
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    const texts: { text: string; colour: string; background: string }[] = []
    while (walker.nextNode()) {
      const text = walker.currentNode.textContent?.trim() ?? ''
      const parent = walker.currentNode.parentElement as Element
      if (text === '' || !parent.checkVisibility() || parent.matches('option, noscript')) continue
      texts.push({ text, colour: getComputedStyle(parent).color, background: background_of(parent) })
    }
    for (const field of document.querySelectorAll('input[type=text], select')) {
      texts.push({ text: field.id, colour: getComputedStyle(field).color, background: background_of(field) })
    }
    return texts
  })
  return found.map((each) => ({ ...each, ratio: contrast(each.colour, each.background) }))
}

/** Of two colours as browsers write them: `rgb(1, 2, 3)`. Others, see-through ones included, are refused. */
function contrast(one: string, other: string): number {
  const [bright, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a) as [number, number]
  return (bright + 0.05) / (dark + 0.05)
}

function luminance(colour: string): number {
  const parts = /^rgb\((\d+), (\d+), (\d+)\)$/.exec(colour)
  if (parts === null) throw new Error(`not an opaque colour: ${colour}`)
  const [red, green, blue] = parts.slice(1).map((part) => {
    const value = Number(part) / 255
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4
  }) as [number, number, number]
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}
