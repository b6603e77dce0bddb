// The script of the documentation page.
import { addTryIt } from './try-it.mjs'

const { folder, prefix } = document.body.dataset
const main = document.getElementById('asyncapi')

try {
  await showDocument()
} catch (error) {
  main.textContent = `The documentation does not load: ${error.message}`
  throw error
}

async function showDocument() {
  const [response] = await Promise.all([fetch(`${folder}json`), loadComponent()])
  if (!response.ok) throw new Error(`the document is answered with ${response.status}`)
  const description = await response.json()
  const hasTags = Object.values(description.operations).some(({ tags }) => tags)
  const parsed = toParsed(description)
  AsyncApiStandalone.render(
    {
      schema: parsed,
      config: {
        show: { sidebar: true, errors: true },
        sidebar: {
          useChannelAddressAsIdentifier: true,
          showOperations: hasTags ? 'byOperationsTags' : 'byDefault'
        },
        receiveLabel: 'server receives',
        sendLabel: 'server sends'
      }
    },
    main
  )
  addTryIt(document.getElementById('try-it'), parsed, basePath())
}

/** The path before the paths of the application, which a proxy may have added. */
function basePath() {
  const path = location.pathname.replace(/\/$/, '')
  return path.endsWith(prefix) ? path.slice(0, -prefix.length) : ''
}

/**
 * Loads the component. Its bundle includes a validator, which makes functions from text when it is loaded. The policy of the
 * page forbids that, and the page validates nothing, so these functions do nothing.
 */
async function loadComponent() {
  const original = globalThis.Function
  globalThis.Function = new Proxy(original, { construct: () => () => () => true })
  const script = document.createElement('script')
  script.src = `${folder}component.js`
  await new Promise((resolve, reject) => {
    script.onload = resolve
    script.onerror = () => reject(new Error('the component does not load'))
    document.head.append(script)
  })
  globalThis.Function = original
}

/** The document as the component takes it without a parser: references are resolved, and objects know their names. */
function toParsed(doc) {
  name(doc.channels)
  for (const channel of Object.values(doc.channels)) name(channel.messages)
  name(doc.operations)
  for (const [id, schema] of Object.entries(doc.components?.schemas ?? {})) schema['x-parser-schema-id'] = id
  resolve(doc, doc, new Set())
  return { ...doc, 'x-parser-spec-parsed': true, 'x-parser-api-version': 3 }
}

function name(objects) {
  for (const [id, object] of Object.entries(objects)) object['x-parser-unique-object-id'] = id
}

/** Replaces each reference by the object to which it leads. */
function resolve(value, root, passed) {
  if (typeof value !== 'object' || value === null || passed.has(value)) return
  passed.add(value)
  for (const [key, member] of Object.entries(value)) {
    const target = follow(member, root)
    if (target !== member) value[key] = target
    resolve(target, root, passed)
  }
}

function follow(value, root) {
  let target = value
  for (let n = 0; typeof target?.$ref === 'string' && n < 100; n++) target = at(root, target.$ref)
  return target
}

function at(root, $ref) {
  return $ref
    .split('/')
    .slice(1)
    .reduce(
      (value, part) => value?.[decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~')],
      root
    )
}
