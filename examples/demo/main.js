/** The page: what is typed goes to the pronouncer, what comes back goes into the pictures. */

import { element } from './element.js'
import { HeatMap } from './heat_map.js'
import { Loads } from './loads.js'
import { load_pronouncer } from './pronouncer.js'
import { Tooltip } from './tooltip.js'

const [form, word, capacity, slow, pronunciation, status, progress, problem, stacks] = [
  'form',
  'word',
  'capacity',
  'slow',
  'pronunciation',
  'status',
  'progress',
  'error',
  'stacks',
].map((id) => document.getElementById(id))
const tooltip = new Tooltip(document.getElementById('tooltip'))

/** Between two tokens, in slow motion. */
const PAUSE_MS = 400

/** The model that is loaded or being loaded, for which capacity. */
let loaded = { capacity: undefined, pronouncer: Promise.resolve(null) }
let running = new AbortController()

/** The model with the chosen capacity. Another one that was loaded is freed first. */
async function pronouncer_for(wanted) {
  if (loaded.capacity !== wanted) {
    const before = loaded.pronouncer
    const pronouncer = before
      .then((old) => old?.dispose())
      .catch(() => {})
      .then(() => load_pronouncer(wanted, show_progress))
    loaded = { capacity: wanted, pronouncer }
    pronouncer.catch(() => forget(pronouncer))
    status.textContent = 'Loading the model'
    progress.value = 0
    progress.hidden = false
    await pronouncer.finally(() => {
      progress.hidden = true
    })
  }
  return loaded.pronouncer
}

/** Lets the next word load the model anew: this one could not be loaded, or failed at work. */
function forget(pronouncer) {
  if (loaded.pronouncer === pronouncer) loaded.capacity = undefined
}

function show_progress(percent) {
  progress.value = percent
}

/** Pronounces what is typed; a run before it ends at once. */
async function run() {
  running.abort()
  running = new AbortController()
  const { signal } = running
  problem.hidden = true
  try {
    const pronouncer = await pronouncer_for(capacity.value === '' ? null : Number(capacity.value))
    if (signal.aborted) return
    if (capacity.value === '') capacity.options[0].textContent = `${pronouncer.capacity} tokens, as trained`
    await show(pronouncer, word.value.trim().toLowerCase(), signal)
  } catch (error) {
    if (signal.aborted) return
    forget(loaded.pronouncer)
    status.textContent = 'Failed'
    problem.textContent = `${error.code ?? error.name}: ${error.message}`
    problem.hidden = false
  }
}

async function show(pronouncer, text, signal) {
  const pictures = draw(pronouncer)
  pronunciation.replaceChildren()
  status.textContent = 'Running'
  const start = performance.now()
  let sounds = 0
  let dropped = 0
  for await (const event of pronouncer.pronounce(text, signal)) {
    if (event.stack === 'decoder' && slow.checked) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
    if (signal.aborted) return
    for (const picture of pictures[event.stack]) picture.add(event)
    dropped += event.routes.filter((expert) => expert < 0).length
    if (event.stack === 'decoder' && event.text !== '') {
      sounds++
      pronunciation.append(event.text.startsWith(' ') ? ' ' : '', element('span', { text: event.text.trim() }))
    }
  }
  const time = `${Math.round(performance.now() - start)} ms`
  const loss =
    dropped === 0 ? 'no token was dropped' : `tokens were dropped ${dropped === 1 ? 'once' : `${dropped} times`}`
  status.textContent = `“${text}”: ${sounds} ${sounds === 1 ? 'sound' : 'sounds'} in ${time}; ${loss}`
}

/** Empty pictures for both stacks. */
function draw(pronouncer) {
  tooltip.hide()
  const pictures = {}
  const sections = Object.entries(pronouncer.sparse_layers).map(([stack, layers]) => {
    const map = new HeatMap(stack, layers, pronouncer.capacity, tooltip)
    const loads = new Loads(stack, layers, pronouncer.experts)
    pictures[stack] = [map, loads]
    const title = element('h2', { id: `${stack}-title`, text: stack === 'encoder' ? 'Encoder' : 'Decoder' })
    const note = stack === 'encoder' ? 'reads the whole word at once' : 'writes one sound after another'
    return element('section', { id: stack, class: 'stack', 'aria-labelledby': title.id }, [
      element('header', {}, [title, element('p', { class: 'note', text: note })]),
      element('div', { class: 'wide' }, [element('h3', { text: 'Who took which token' }), map.node]),
      element('div', { class: 'wide' }, [element('h3', { text: 'Tokens per expert' }), loads.node]),
    ])
  })
  stacks.replaceChildren(...sections)
  return pictures
}

form.addEventListener('submit', (event) => {
  event.preventDefault()
  void run()
})
capacity.addEventListener('change', () => void run())
void run()
