// Writes docs/reference/options.md from the table of options: `npm run docs:options`.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const INTRO = `# Options

<!-- Made from lib/options/table.ts by \`npm run docs:options\`. Change the table, not this file. -->

Options are given to \`register\`, to \`websocket\` of a route, or to \`WebSocketServer\` of \`fastify-upgrade/ws\`. Each section says
which of these accept its options. An option of the plugin is the default of all its routes, and a route may override it where
it accepts the option. Routes do not inherit \`maxConnections\`, \`maxConnectionsPerAddress\` and \`maxConnectionsPerUser\`: the
plugin's limits and those of a route apply together.

Sizes are in bytes and durations in milliseconds. An unknown name or an invalid value throws at registration, with an error that
names the option. \`WebSocketServer\` ignores unknown names, as libraries pass on options of their own, and does not check
\`port\`, \`host\`, \`backlog\` and \`path\`.

The API reference has more about [limits](api.md#limits), [slow peers](api.md#slow-peers) and [shutdown](api.md#shutdown).
`

const SCOPES = {
  plugin: '`register`',
  route: '`websocket` of a route',
  ws: '`WebSocketServer` of `fastify-upgrade/ws`',
  asyncapi: '`register` of `fastify-upgrade/asyncapi`'
}

/** @param sections SECTIONS of lib/options/table.ts. */
export function optionsDocument(sections) {
  return [INTRO, ...Object.values(sections).map(sectionText)].join('\n')
}

function sectionText({ title, scopes, options }) {
  const places = new Intl.ListFormat('en').format(scopes.map(scope => SCOPES[scope]))
  return `## ${title}\n\nAccepted by ${places}.\n\n${tables(options)}`
}

/** The table of the given options, followed by the tables of those that are objects. */
function tables(options, prefix = '') {
  const rows = Object.entries(options).map(
    ([name, option]) => `| \`${name}\` | ${defaultText(option)} | ${option.values} | ${option.description} |`
  )
  const nested = Object.entries(options)
    .filter(([, option]) => option.nested !== undefined)
    .map(([name, option]) => `### \`${prefix}${name}\`\n\n${tables(option.nested, `${prefix}${name}.`)}`)
  const head = '| option | default | values | meaning |\n| --- | --- | --- | --- |\n'
  return [`${head}${rows.join('\n')}\n`, ...nested].join('\n')
}

function defaultText({ defaultText, wsDefault }) {
  if (wsDefault === undefined) return defaultText
  return `${defaultText}; in \`fastify-upgrade/ws\` ${wsDefault || '`false`'}`
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { SECTIONS } = await import('../dist/lib/options/table.js')
  writeFileSync(join(import.meta.dirname, '..', 'docs', 'reference', 'options.md'), optionsDocument(SECTIONS))
}
