// The script of the console. It has no dependencies and is not compiled.

const $ = id => document.getElementById(id)

/** The number of summaries that a plot shows. */
const HISTORY = 150

/** Milliseconds after which a page connects again. */
const RETRY_DELAY = 2000

const PLOTS = [
  { title: 'Connections', values: now => [now.connections], show: count },
  {
    title: 'Messages per second',
    names: ['in', 'out'],
    values: now => [now.messagesIn, now.messagesOut],
    show: count
  },
  {
    title: 'Bytes per second',
    names: ['in', 'out'],
    values: now => [now.bytesIn, now.bytesOut],
    show: bytes
  },
  { title: 'Closed per second', values: now => [now.closed], show: count },
  { title: 'Buffered bytes', values: now => [now.buffered], show: bytes },
  {
    title: 'Event-loop delay',
    names: ['99 %', 'most'],
    values: now => [now.delay, now.maxDelay],
    show: milliseconds
  }
]

let socket
let isPaused = false
/** The last summary, and the one before it, by process: rates are made of both. */
let last
let before = new Map()
let beforeAt = 0
/** The history of the plots by process; that of all has an empty name. */
const histories = new Map()
let shownTopic
let list

// ---- the connection

function connect() {
  const url = new URL('socket', import.meta.url)
  url.protocol = url.protocol.replace('http', 'ws')
  socket = new WebSocket(url)
  socket.addEventListener('open', () => {
    setStatus('Connected')
    // The numbers of a process that has started again begin anew.
    before = new Map()
    askForList()
    if (shownTopic !== undefined) send({ type: 'topic', topic: shownTopic })
  })
  socket.addEventListener('message', ({ data }) => onMessage(JSON.parse(data)))
  socket.addEventListener('close', () => {
    setStatus('Disconnected, connecting again. If this stays, reload the page to log in.', true)
    setTimeout(connect, RETRY_DELAY)
  })
}

function send(message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message))
}

function onMessage(message) {
  if (message.type === 'closed') {
    const { connections, isComplete } = message
    const missing = isComplete ? '' : ' A process has not answered.'
    $('result').textContent =
      connections === 0
        ? `No connection was open.${missing}`
        : `${plural(connections, 'connection')} closed.${missing}`
  } else if (message.type === 'summary') onSummary(message)
  else if (isPaused) return
  else if (message.type === 'list') showList(message)
  else if (message.type === 'topic') showTopic(message)
}

function setStatus(text, isBad = false) {
  const status = $('status')
  // Screen readers read it only when it changes.
  if (status.textContent !== text) status.textContent = text
  status.classList.toggle('bad', isBad)
}

// ---- numbers

function onSummary(summary) {
  const at = performance.now()
  const seconds = (at - beforeAt) / 1000
  const all = emptyNumbers()
  const reports = new Map()
  for (const { process, connections, report } of summary.processes) {
    const numbers = numbersOf(report ?? { connections }, before.get(process), seconds)
    record(process, numbers)
    for (const name of Object.keys(all)) {
      // The delay of all is the worst.
      all[name] = name.endsWith('elay') ? Math.max(all[name], numbers[name]) : all[name] + numbers[name]
    }
    if (report !== undefined) reports.set(process, report)
  }
  record('', all)
  before = reports
  beforeAt = at
  last = summary
  if (!isPaused) showSummary()
}

function emptyNumbers() {
  return {
    connections: 0,
    messagesIn: 0,
    messagesOut: 0,
    bytesIn: 0,
    bytesOut: 0,
    closed: 0,
    buffered: 0,
    delay: 0,
    maxDelay: 0
  }
}

function numbersOf(report, earlier, seconds) {
  const numbers = emptyNumbers()
  numbers.connections = report.connections
  if (report.pid === undefined) return numbers
  const rate = value => (earlier === undefined ? 0 : Math.max(value(report) - value(earlier), 0) / seconds)
  numbers.messagesIn = rate(one => one.messagesReceived)
  numbers.messagesOut = rate(one => one.messagesSent)
  numbers.bytesIn = rate(one => one.bytesReceived)
  numbers.bytesOut = rate(one => one.bytesSent)
  numbers.closed = rate(one => Object.values(one.closes).reduce((sum, value) => sum + value, 0))
  numbers.buffered = report.bufferedAmount
  numbers.delay = report.eventLoopDelay.p99
  numbers.maxDelay = report.eventLoopDelay.max
  return numbers
}

function record(process, numbers) {
  const history = histories.get(process) ?? []
  history.push(numbers)
  if (history.length > HISTORY) history.shift()
  // The latest are at the end, so that processes that have gone are the first to be forgotten.
  histories.delete(process)
  histories.set(process, history)
  if (histories.size > 200) histories.delete(histories.keys().next().value)
}

function showSummary() {
  const { processes, isComplete } = last
  const missing = isComplete ? '' : ', one has not answered'
  setStatus(`${plural(processes.length, 'process', 'processes')}${missing}`, !isComplete)
  showScopes(processes)
  const scope = $('scope').value
  const history = histories.get(scope) ?? []
  for (const plot of PLOTS) drawPlot(plot, history)
  fill($('processes').tBodies[0], processes, ({ process }) => process, processCells)
  const closes = new Map()
  const topics = new Map()
  let topicCount = 0
  for (const { process, report } of processes) {
    if (report === undefined || (scope !== '' && scope !== process)) continue
    for (const [code, number] of Object.entries(report.closes))
      closes.set(code, (closes.get(code) ?? 0) + number)
    topicCount = Math.max(topicCount, report.topicCount)
    for (const topic of report.topics) addTopic(topics, topic)
  }
  fill(
    $('closes').tBodies[0],
    [...closes].sort(([a], [b]) => a.localeCompare(b)),
    ([code]) => code,
    ([code, number]) => [cell('Close code', closeCodeText(code)), cell('Number', count(number), 'number')]
  )
  const sorted = [...topics.values()].sort((a, b) => b.subscribers - a.subscribers)
  $('topic-count').textContent =
    sorted.length === 0
      ? 'No topic has subscribers.'
      : `The topics with the most subscribers, of ${count(Math.max(topicCount, sorted.length))} in a process.`
  fill($('topics').tBodies[0], sorted, ({ topic }) => topic, topicCells)
  $('topic-names').replaceChildren(...sorted.map(({ topic }) => new Option('', topic)))
}

function showScopes(processes) {
  const select = $('scope')
  const names = processes.map(({ process }) => process)
  const known = [...select.options].slice(1).map(({ value }) => value)
  if (names.join() === known.join()) return
  const { value } = select
  select.replaceChildren(
    new Option('all processes', ''),
    ...processes.map(one => new Option(nameOf(one), one.process))
  )
  select.value = names.includes(value) ? value : ''
}

function nameOf({ process, report }) {
  const own = process === last.process ? ', this one' : ''
  return report === undefined ? short(process) : `${short(process)} (pid ${report.pid}${own})`
}

function processCells(one) {
  const { connections, report } = one
  const first = [cell('Process', nameOf(one)), cell('Connections', count(connections), 'number')]
  if (report === undefined) return [...first, cell('Buffered', 'no report')]
  return [
    ...first,
    cell('Buffered', bytes(report.bufferedAmount), 'number'),
    cell('Dropped', count(report.dropped), 'number'),
    cell('Loop delay', milliseconds(report.eventLoopDelay.p99), 'number'),
    cell('Memory', bytes(report.memory), 'number'),
    cell('Broker', BROKERS[report.broker], report.broker === 'down' ? 'bad' : ''),
    cell('Pending', bytes(report.pendingBytes), 'number'),
    cell('Lag', count(report.undelivered), 'number'),
    cell('Lost', count(report.lost), 'number'),
    cell('Up', duration(report.uptime * 1000))
  ]
}

const BROKERS = { up: 'connected', down: 'disconnected', none: 'none' }

const CODES = {
  1000: 'normal',
  1001: 'going away',
  1002: 'protocol error',
  1003: 'unsupported data',
  1005: 'no code',
  1006: 'cut',
  1007: 'invalid data',
  1008: 'policy',
  1009: 'too big',
  1011: 'error of the application',
  1012: 'restart',
  1013: 'try again later'
}

function closeCodeText(code) {
  return CODES[code] === undefined ? code : `${code} ${CODES[code]}`
}

// ---- plots

const WIDTH = 300
const HEIGHT = 48
const SVG = 'http://www.w3.org/2000/svg'

function drawPlot(plot, history) {
  if (plot.figure === undefined) addPlot(plot)
  const series = history.map(plot.values)
  const now = series.at(-1) ?? []
  const top = Math.max(...series.flat(), 1e-9)
  plot.lines.forEach((line, index) => {
    const points = series.map((values, i) => {
      const x = WIDTH - (series.length - 1 - i) * (WIDTH / (HISTORY - 1))
      return `${x.toFixed(1)},${(HEIGHT - 1 - (values[index] / top) * (HEIGHT - 4)).toFixed(1)}`
    })
    line.setAttribute('points', points.join(' '))
  })
  plot.labels.forEach((label, index) => {
    label.textContent = `${plot.names?.[index] ?? ''} ${plot.show(now[index] ?? 0)}`.trim()
  })
}

function addPlot(plot) {
  const figure = document.createElement('figure')
  const caption = document.createElement('figcaption')
  caption.append(plot.title)
  const svg = document.createElementNS(SVG, 'svg')
  svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`)
  svg.setAttribute('preserveAspectRatio', 'none')
  // The caption has the numbers.
  svg.setAttribute('aria-hidden', 'true')
  const axis = document.createElementNS(SVG, 'line')
  for (const [name, value] of Object.entries({ x1: 0, x2: WIDTH, y1: HEIGHT - 0.5, y2: HEIGHT - 0.5 }))
    axis.setAttribute(name, value)
  svg.append(axis)
  const names = plot.names ?? ['']
  plot.lines = names.map(() => svg.appendChild(document.createElementNS(SVG, 'polyline')))
  const values = document.createElement('span')
  plot.labels = names.map((_, index) => {
    const label = document.createElement('b')
    if (names.length > 1) label.className = index === 0 ? 'first' : 'second'
    values.append(label, ' ')
    return label
  })
  caption.append(values)
  figure.append(caption, svg)
  plot.figure = figure
  $('plots').append(figure)
}

// ---- connections

function askForList() {
  const { user, remoteAddress, route, topic, sort, limit } = Object.fromEntries(new FormData($('filter')))
  const filter = { user, remoteAddress, route, topic }
  for (const [name, value] of Object.entries(filter)) if (value === '') delete filter[name]
  send({ type: 'list', sort, limit: Number(limit), ...filter })
}

function showList(message) {
  list = message
  const { connections, total, isComplete, sort } = message
  const some = connections.length < total ? ` Shown are the first ${count(connections.length)}.` : ''
  const missing = isComplete ? '' : ' A process has not answered.'
  $('count').textContent = `${plural(total, 'connection')}.${some}${missing}`
  for (const header of $('list').tHead.querySelectorAll('[data-sort]')) {
    const isSorted = header.dataset.sort === sort
    if (isSorted) header.setAttribute('aria-sort', sort === 'since' ? 'ascending' : 'descending')
    else header.removeAttribute('aria-sort')
  }
  fill($('list').tBodies[0], connections, ({ id }) => id, connectionCells)
  const routes = new Set([...$('routes').options].map(({ value }) => value))
  for (const { route } of connections) routes.add(route)
  if (routes.size !== $('routes').options.length)
    $('routes').replaceChildren(...[...routes].map(route => new Option('', route)))
}

function connectionCells(connection) {
  const { user, remoteAddress, route, subprotocol, httpVersion, topics, latency, since, process } = connection
  const protocol = [subprotocol, httpVersion.startsWith('2') ? 'HTTP/2' : ''].filter(Boolean).join(', ')
  const names = topics.slice(0, 3).join(', ') + (topics.length > 3 ? `, and ${topics.length - 3} more` : '')
  return [
    cell('User', user === undefined ? '–' : linkTo('user', user), 'text'),
    cell('Address', remoteAddress === undefined ? '–' : linkTo('remoteAddress', remoteAddress), 'text'),
    cell('Route', protocol === '' ? route : `${route} (${protocol})`, 'text'),
    cell('Buffered', bytes(connection.bufferedAmount), 'number'),
    cell('In', `${bytes(connection.bytesReceived)} / ${count(connection.messagesReceived)}`, 'number'),
    cell('Out', `${bytes(connection.bytesSent)} / ${count(connection.messagesSent)}`, 'number'),
    cell('Latency', latency === undefined ? '–' : milliseconds(latency), 'number'),
    cell('Open for', duration(Date.now() - since), 'number'),
    cell('Topics', names || '–', 'text', topics.join(', ')),
    cell('Process', short(process)),
    cell('Close', closeButtons(connection))
  ]
}

/** A button that filters by a value. */
function linkTo(name, value) {
  const button = document.createElement('button')
  button.type = 'button'
  button.className = 'link'
  button.textContent = value
  button.title = `Show the connections of ${value}`
  button.dataset.filter = name
  return button
}

function closeButtons({ id, user, remoteAddress }) {
  const buttons = document.createElement('span')
  const one = document.createElement('button')
  one.type = 'button'
  one.className = 'danger'
  one.textContent = 'Close'
  one.dataset.close = id
  one.setAttribute('aria-label', `Close the connection of ${user ?? remoteAddress ?? id}`)
  buttons.append(one)
  if (user === undefined) return buttons
  const all = document.createElement('button')
  all.type = 'button'
  all.className = 'danger'
  all.textContent = 'All'
  all.dataset.closeUser = user
  all.setAttribute('aria-label', `Close all connections of ${user}`)
  buttons.append(' ', all)
  return buttons
}

async function confirmed(question) {
  const dialog = $('confirm')
  $('question').textContent = question
  dialog.returnValue = 'no'
  dialog.showModal()
  await new Promise(resolve => dialog.addEventListener('close', resolve, { once: true }))
  $('question').textContent = ''
  return dialog.returnValue === 'yes'
}

async function onClick({ target }) {
  const button = target.closest('button')
  if (button === null) return
  const { filter, close, closeUser, topic, sort } = button.dataset
  if (filter !== undefined) setFilter({ [filter]: button.textContent })
  if (sort !== undefined) setFilter({ sort })
  if (topic !== undefined) selectTopic(topic)
  if (close !== undefined) {
    const one = list.connections.find(({ id }) => id === close)
    const owner = one?.user ?? one?.remoteAddress ?? 'an unknown client'
    const buffered = one === undefined ? '' : ` It has ${bytes(one.bufferedAmount)} buffered.`
    if (await confirmed(`Close the connection of ${owner} at ${one?.route}?${buffered}`))
      send({ type: 'close', connection: close })
  }
  if (
    closeUser !== undefined &&
    (await confirmed(`Close all connections of ${closeUser}, in all processes?`))
  )
    send({ type: 'closeUser', user: closeUser })
}

function setFilter(values) {
  for (const [name, value] of Object.entries(values)) $('filter').elements.namedItem(name).value = value
  askForList()
}

// ---- topics

function addTopic(topics, { topic, subscribers, members, offset }) {
  const known = topics.get(topic) ?? { topic, subscribers: 0, members: 0, offset: undefined }
  topics.set(topic, {
    topic,
    subscribers: known.subscribers + subscribers,
    members: known.members + members,
    offset: offset === undefined ? known.offset : Math.max(offset, known.offset ?? 0)
  })
}

function topicCells({ topic, subscribers, members, offset }) {
  const button = document.createElement('button')
  button.type = 'button'
  button.className = 'link'
  button.textContent = topic
  button.dataset.topic = topic
  return [
    cell('Topic', button, 'text'),
    cell('Subscribers', count(subscribers), 'number'),
    cell('Present', count(members), 'number'),
    cell('Last offset', offset === undefined ? '–' : count(offset), 'number')
  ]
}

function selectTopic(topic) {
  shownTopic = topic
  send({ type: 'topic', topic })
}

let topicText

function showTopic({ topic, subscribers, members, memberCount, history }) {
  // Screen readers read it only when it changes.
  const text = JSON.stringify([topic, subscribers, members, memberCount, history])
  if (text === topicText || topic !== shownTopic) return
  topicText = text
  const title = document.createElement('h3')
  title.textContent = topic
  const present = document.createElement('ul')
  for (const { id, data } of members) {
    const item = document.createElement('li')
    item.textContent = data || id
    present.append(item)
  }
  const hide = document.createElement('button')
  hide.type = 'button'
  hide.textContent = 'Hide'
  hide.addEventListener('click', () => {
    shownTopic = undefined
    topicText = undefined
    $('topic').replaceChildren()
    send({ type: 'topic' })
  })
  const lines = [
    `${plural(subscribers, 'subscriber')}.`,
    historyText(history),
    `${plural(memberCount, 'presence member')}${members.length < memberCount ? `, of which ${members.length} are shown` : ''}.`
  ]
  $('topic').replaceChildren(title, ...lines.map(paragraph), present, hide)
}

function historyText(history) {
  if (history === undefined) return 'No history.'
  if (history.error !== undefined) return `The history cannot be read: ${history.error}`
  const { first, last, epoch } = history
  return first > last
    ? `The history is empty, at offset ${count(last)} of epoch ${epoch}.`
    : `History from offset ${count(first)} to ${count(last)}, epoch ${epoch}.`
}

function paragraph(text) {
  const element = document.createElement('p')
  element.textContent = text
  return element
}

// ---- tables and texts

/** Fills a table, and keeps the rows that are there, so that the focus stays where it is. */
function fill(body, items, keyOf, cellsOf) {
  const rows = new Map([...body.rows].map(row => [row.dataset.key, row]))
  let next = body.firstElementChild
  for (const item of items) {
    const key = String(keyOf(item))
    let row = rows.get(key)
    rows.delete(key)
    if (row === undefined) {
      row = document.createElement('tr')
      row.dataset.key = key
    }
    const cells = cellsOf(item)
    cells.forEach((one, index) => {
      const old = row.cells[index]
      if (old === undefined) row.append(one)
      else if (!old.isEqualNode(one)) old.replaceWith(one)
    })
    while (row.cells.length > cells.length) row.cells[cells.length].remove()
    if (row === next) next = next.nextElementSibling
    else body.insertBefore(row, next)
  }
  for (const row of rows.values()) row.remove()
}

function cell(label, content, className = '', title = '') {
  const element = document.createElement('td')
  element.dataset.label = label
  if (className !== '') element.className = className
  if (title !== '') element.title = title
  element.append(content)
  return element
}

function short(process) {
  return process.slice(0, 8)
}

function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`
}

function count(value) {
  const digits = value < 10 && !Number.isInteger(value) ? 1 : 0
  return value.toLocaleString('en', { maximumFractionDigits: digits })
}

function bytes(value) {
  if (value < 1024) return `${count(Math.round(value))} B`
  let number = value
  let index = -1
  while (number >= 1024 && index < 3) {
    number /= 1024
    index++
  }
  return `${number.toFixed(number < 10 ? 1 : 0)} ${['KiB', 'MiB', 'GiB', 'TiB'][index]}`
}

function milliseconds(value) {
  return `${value.toFixed(value < 10 ? 1 : 0)} ms`
}

function duration(value) {
  const seconds = Math.max(Math.floor(value / 1000), 0)
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`
}

// ---- start

$('filter').addEventListener('submit', event => {
  event.preventDefault()
  askForList()
})
$('filter').addEventListener('reset', () => setTimeout(askForList))
for (const name of ['sort', 'limit'])
  $('filter').elements.namedItem(name).addEventListener('change', askForList)
for (const header of $('list').tHead.querySelectorAll('[data-sort]')) {
  const button = document.createElement('button')
  button.type = 'button'
  button.dataset.sort = header.dataset.sort
  button.textContent = header.textContent
  header.replaceChildren(button)
}
// Tables that are wider than the window scroll with the keyboard, too.
for (const scroller of document.querySelectorAll('.scroll')) scroller.tabIndex = 0
$('pause').addEventListener('click', ({ currentTarget }) => {
  isPaused = !isPaused
  currentTarget.setAttribute('aria-pressed', String(isPaused))
  currentTarget.textContent = isPaused ? 'Continue' : 'Pause'
  if (isPaused) setStatus('Paused')
  else if (last !== undefined) showSummary()
})
$('scope').addEventListener('change', () => last !== undefined && showSummary())
document.addEventListener('click', event => void onClick(event))
for (const plot of PLOTS) drawPlot(plot, [])
connect()
