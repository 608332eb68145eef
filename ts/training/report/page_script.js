// The report's own script. It is put into the page as it is: no imports, and nothing that an old engine lacks.
;(() => {
  const { figures, maps } = JSON.parse(document.getElementById('data').textContent)
  const figures_place = document.getElementById('figures')
  const maps_place = document.getElementById('maps')
  const PALETTE = ['--line-1', '--line-2', '--line-3', '--line-4', '--line-5', '--line-6']
  const dark = matchMedia('(prefers-color-scheme: dark)')
  let charts = []

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
  const element = (tag, properties, ...children) => {
    const made = Object.assign(document.createElement(tag), properties)
    made.append(...children)
    return made
  }
  const show = (value) => {
    if (value === null || value === undefined) return '–'
    const size = Math.abs(value)
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2)
    return String(Number(value.toPrecision(4)))
  }

  // A line that never leaves one value is drawn as such, not over a made-up scale.
  function range(_, low, high) {
    if (low === null) return [0, 1]
    if (low !== high) return uPlot.rangeNum(low, high, 0.1, true)
    return low === 0 ? [0, 1] : [Math.min(0, 1.5 * low), Math.max(0, 1.5 * low)]
  }

  function draw_figure({ title, unit, steps, lines, logarithmic }) {
    const place = element('div', { className: 'chart' })
    const figure = element(
      'figure',
      {},
      element('figcaption', { textContent: unit ? `${title} (${unit})` : title }),
      place,
    )
    figures_place.append(figure)
    const axis = {
      stroke: color('--quiet'),
      grid: { stroke: color('--grid'), width: 1 },
      ticks: { stroke: color('--grid'), width: 1 },
      font: '12px system-ui, sans-serif',
    }
    const few = steps.length < 60
    const chart = new uPlot(
      {
        width: place.clientWidth,
        height: 220,
        cursor: { drag: { x: true, y: false } },
        scales: { x: { time: false }, y: logarithmic ? { distr: 3 } : { range } },
        axes: [
          {
            ...axis,
            values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? tick.toLocaleString('en') : '')),
          },
          { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : show(tick))) },
        ],
        series: [
          { label: 'step', value: (_, step) => (step === null ? '–' : step.toLocaleString('en')) },
          ...lines.map(({ name }, index) => ({
            label: name,
            stroke: color(PALETTE[index % PALETTE.length]),
            width: 2,
            spanGaps: true,
            points: { show: few, size: 5 },
            value: (_, value) => show(value),
          })),
        ],
      },
      [steps, ...lines.map(({ values }) => values)],
      place,
    )
    charts.push({ chart, place })
  }

  // From the page's ground to one strong colour: more is more visible in light and in dark.
  function ramp(share, most) {
    const [from, to] = [color('--heat-low'), color('--heat-high')].map((hex) =>
      [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)),
    )
    const part = Math.min(1, share / most)
    return from.map((low, i) => Math.round(low + (to[i] - low) * part))
  }

  function draw_map({ title, steps, shares, dropped }) {
    const experts = Math.max(...shares.map((row) => row.length))
    const most = Math.min(1, Math.max(3 / experts, 2 * (1 / experts)))
    const canvas = element('canvas', { width: Math.max(1, steps.length), height: experts })
    canvas.setAttribute('role', 'img')
    const context = canvas.getContext('2d')
    const image = context.createImageData(canvas.width, canvas.height)
    shares.forEach((row, x) => {
      for (let y = 0; y < experts; y++) {
        const [r, g, b] = ramp(row[y] ?? 0, most)
        image.data.set([r, g, b, 255], (y * canvas.width + x) * 4)
      }
    })
    context.putImageData(image, 0, 0)
    const last = shares[shares.length - 1]
    canvas.setAttribute(
      'aria-label',
      `${title}: share of tokens per expert over time; at the end ${last.map((s) => show(100 * s)).join(', ')} %`,
    )
    const readout = element('output', { textContent: summary(steps.length - 1) })
    function summary(at, expert) {
      const row = shares[at]
      const mean = 1 / row.length
      const spread = Math.sqrt(row.reduce((sum, share) => sum + (share - mean) ** 2, 0) / row.length) / mean
      const one = expert === undefined ? '' : `expert ${expert}: ${show(100 * row[expert])} % · `
      return `step ${steps[at].toLocaleString('en')} · ${one}variation ${show(spread)} · dropped ${show(100 * dropped[at])} %`
    }
    canvas.addEventListener('pointermove', (event) => {
      const box = canvas.getBoundingClientRect()
      const at = Math.min(
        steps.length - 1,
        Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * steps.length)),
      )
      const expert = Math.min(experts - 1, Math.max(0, Math.floor(((event.clientY - box.top) / box.height) * experts)))
      readout.textContent = summary(at, expert)
    })
    canvas.addEventListener('pointerleave', () => {
      readout.textContent = summary(steps.length - 1)
    })
    canvas.style.height = `${Math.min(256, Math.max(96, experts * 16))}px`
    const labels = element(
      'div',
      { className: 'experts' },
      element('span', { textContent: 'expert 0' }),
      element('span', { textContent: `${experts - 1}` }),
    )
    maps_place.append(
      element(
        'figure',
        {},
        element('figcaption', { textContent: title }),
        element('div', { className: 'map' }, labels, canvas),
        element(
          'div',
          { className: 'steps' },
          element('span', { textContent: `step ${steps[0].toLocaleString('en')}` }),
          element('span', { textContent: steps[steps.length - 1].toLocaleString('en') }),
        ),
        readout,
      ),
    )
  }

  function draw() {
    for (const { chart } of charts) chart.destroy()
    charts = []
    figures_place.replaceChildren()
    maps_place.replaceChildren()
    figures.forEach(draw_figure)
    maps.forEach(draw_map)
  }

  draw()
  dark.addEventListener('change', draw)
  addEventListener('resize', () => {
    for (const { chart, place } of charts) chart.setSize({ width: place.clientWidth, height: 220 })
  })
})()
