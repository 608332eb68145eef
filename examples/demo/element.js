/** An element with attributes (`text` is its content) and children. */
export function element(name, { text, ...attributes } = {}, children = []) {
  const node = document.createElement(name)
  for (const [attribute, value] of Object.entries(attributes)) node.setAttribute(attribute, String(value))
  if (text !== undefined) node.textContent = text
  node.append(...children)
  return node
}
