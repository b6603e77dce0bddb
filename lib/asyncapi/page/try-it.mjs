import { sampleOf } from './sample.mjs'

/** The number of log entries that are kept. */
const MAX_ENTRIES = 200

/**
 * Adds the form with which people connect to a channel, send messages and see what arrives.
 * @param spec the document, with its references resolved.
 * @param base the path before the addresses of the channels.
 */
export function addTryIt(section, spec, base) {
  const channels = Object.entries(spec.channels)
  if (channels.length === 0) return
  let socket

  const channel = select(channels.map(([id, one]) => [id, labelOf(one)]))
  const parameters = element('div', { className: 'fields' })
  const url = element('output', { className: 'url' })
  const connect = element('button', { type: 'submit', textContent: 'Connect' })
  const status = element('output', { className: 'status', textContent: 'not connected' })
  const message = select([])
  const text = element('textarea', { rows: 8, spellcheck: false })
  const send = element('button', { type: 'submit', textContent: 'Send', disabled: true })
  const log = element('ol', { className: 'log' })
  const connection = element(
    'form',
    {},
    labelled('Channel', channel),
    parameters,
    url,
    element('p', { className: 'actions' }, connect, status)
  )
  const sending = element(
    'form',
    {},
    labelled('Message', message),
    labelled('Content', text),
    element('p', { className: 'actions' }, send)
  )
  section.append(
    element(
      'details',
      { open: innerWidth >= 1024 },
      element('summary', { textContent: 'Try it' }),
      connection,
      sending,
      log
    )
  )

  channel.onchange = showChannel
  parameters.oninput = showUrl
  message.onchange = showMessage
  connection.onsubmit = event => {
    event.preventDefault()
    if (socket) socket.close(1000)
    else open()
  }
  sending.onsubmit = event => {
    event.preventDefault()
    socket.send(text.value)
    enter('sent', text.value)
  }
  showChannel()

  function showChannel() {
    const one = spec.channels[channel.value]
    const { query, headers } = one.bindings.ws
    parameters.replaceChildren(
      ...Object.entries(one.parameters ?? {}).map(([name, schema]) => field('path', name, schema, true)),
      ...Object.entries(query?.properties ?? {}).map(([name, schema]) =>
        field('query', name, schema, query.required?.includes(name))
      ),
      ...subprotocolsOf(headers)
        .slice(0, 1)
        .map(() => subprotocolField(subprotocolsOf(headers)))
    )
    const messages = messagesOf('receive')
    fill(
      message,
      messages.map((one, index) => [String(index), one.name])
    )
    sending.hidden = messages.length === 0
    showUrl()
    showMessage()
  }

  function showMessage() {
    const one = messagesOf('receive')[Number(message.value)]
    if (one === undefined) return
    const isAny = Object.keys(one.payload).every(key => key.startsWith('x-'))
    text.value = isAny
      ? 'hello'
      : JSON.stringify(one.examples?.[0]?.payload ?? sampleOf(one.payload), null, 2)
  }

  function showUrl() {
    url.textContent = urlOf()
  }

  /** The messages of the chosen channel in one direction. */
  function messagesOf(action) {
    const one = spec.channels[channel.value]
    return Object.values(spec.operations)
      .filter(operation => operation.channel === one && operation.action === action)
      .flatMap(operation => operation.messages)
  }

  function urlOf() {
    let address = spec.channels[channel.value].address
    const query = new URLSearchParams()
    for (const { name, value, dataset } of parameters.querySelectorAll('input, select')) {
      if (dataset.in === 'path') address = address.replace(`{${name}}`, encodePath(name, value))
      else if (dataset.in === 'query' && value !== '') query.append(name, value)
    }
    const search = query.size > 0 ? `?${query}` : ''
    return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${base}${address}${search}`
  }

  function open() {
    const subprotocol = parameters.querySelector('[data-in=subprotocol]')?.value
    let isOpen = false
    try {
      socket = new WebSocket(urlOf(), subprotocol ? [subprotocol] : [])
    } catch (error) {
      status.textContent = error.message
      return
    }
    socket.binaryType = 'arraybuffer'
    show('connecting')
    socket.onopen = () => {
      isOpen = true
      send.disabled = false
      show(socket.protocol ? `connected, ${socket.protocol}` : 'connected')
      enter('event', `connected to ${socket.url}`)
    }
    socket.onmessage = ({ data }) =>
      enter('received', typeof data === 'string' ? data : `${data.byteLength} bytes: ${hex(data)}`)
    socket.onclose = ({ code, reason }) => {
      socket = undefined
      send.disabled = true
      const how = isOpen ? `closed with ${code}${reason && `: ${reason}`}` : 'refused by the server'
      show(how)
      enter('event', how)
    }
  }

  function show(state) {
    status.textContent = state
    connect.textContent = socket ? 'Disconnect' : 'Connect'
  }

  /** Adds an entry to the log. The newest is the first. */
  function enter(kind, content) {
    const time = element('time', { textContent: new Date().toLocaleTimeString() })
    log.prepend(
      element('li', { className: kind, title: kind }, time, element('code', { textContent: content }))
    )
    while (log.children.length > MAX_ENTRIES) log.lastChild.remove()
  }
}

/** A field for a parameter, with the value that its description suggests. */
function field(place, name, schema, isRequired) {
  const values = schema.enum
  const value = schema.default ?? schema.examples?.[0]
  const suggestion = place === 'path' && value === undefined && !values ? name : value
  const input = values
    ? select([...(isRequired ? [] : [['', '']]), ...values.map(one => [one, one])])
    : element('input', { value: suggestion ?? '', required: Boolean(isRequired), autocomplete: 'off' })
  if (values && value !== undefined) input.value = value
  input.name = name
  input.dataset.in = place
  return labelled(name, input, schema.description)
}

function subprotocolField(names) {
  const input = select(names.map(name => [name, name]))
  input.dataset.in = 'subprotocol'
  return labelled('Subprotocol', input)
}

/** The subprotocols in the binding of a channel. */
function subprotocolsOf(headers) {
  return headers?.properties?.['Sec-WebSocket-Protocol']?.enum ?? []
}

function labelOf({ address, bindings }) {
  return [address, ...subprotocolsOf(bindings.ws.headers).slice(0, 1)].join(' · ')
}

/** The value of a path parameter. A wildcard contains slashes. */
function encodePath(name, value) {
  return name === 'wildcard' ? encodeURI(value) : encodeURIComponent(value)
}

function hex(buffer) {
  const bytes = Array.from(new Uint8Array(buffer, 0, Math.min(32, buffer.byteLength)))
  const digits = bytes.map(byte => byte.toString(16).padStart(2, '0')).join(' ')
  return buffer.byteLength > bytes.length ? `${digits} …` : digits
}

// Text becomes content or a property, never HTML.
function element(name, properties, ...children) {
  const node = Object.assign(document.createElement(name), properties)
  node.append(...children)
  return node
}

function labelled(title, input, description = '') {
  return element('label', { title: description }, element('span', { textContent: title }), input)
}

function select(options) {
  return fill(element('select', {}), options)
}

function fill(node, options) {
  node.replaceChildren(...options.map(([value, textContent]) => element('option', { value, textContent })))
  return node
}
