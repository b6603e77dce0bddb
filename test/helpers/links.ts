import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'

const IGNORED = ['node_modules', 'dist', '.git', '.tap']

/** The relative links in the Markdown files below a folder that lead to no file in it, or to no heading of a file. */
export function brokenLinks(root: string): string[] {
  return markdownFiles(root).flatMap(file =>
    linksIn(readFileSync(join(root, file), 'utf8'))
      .filter(link => !resolves(root, file, link))
      .map(link => `${file}: ${link}`)
  )
}

function markdownFiles(root: string, folder = ''): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap(entry => {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`
    if (entry.isDirectory()) return IGNORED.includes(entry.name) ? [] : markdownFiles(root, path)
    return path.endsWith('.md') ? [path] : []
  })
}

function linksIn(markdown: string): string[] {
  const prose = withoutCode(markdown).replace(/(`+)[^`\n]+\1/g, '')
  const links = Array.from(prose.matchAll(/\]\(([^)\s]+)[^)]*\)/g), ([, link = '']) => link)
  const references = Array.from(prose.matchAll(/^\[[^\]]+\]: +(\S+)/gm), ([, link = '']) => link)
  const attributes = Array.from(prose.matchAll(/(?:href|src)="([^"]+)"/g), ([, link = '']) => link)
  return [...links, ...references, ...attributes].filter(link => !/^[a-z]+:/i.test(link))
}

function resolves(root: string, file: string, link: string): boolean {
  const [target = '', heading] = link.split('#')
  const path = target === '' ? join(root, file) : join(root, file, '..', target)
  const isInside = relative(root, path).split(sep)[0] !== '..'
  if (!isInside || !existsSync(path)) return false
  return heading === undefined || headingsIn(readFileSync(path, 'utf8')).has(heading)
}

/** The anchors of the headings of a file, as GitHub generates them. */
function headingsIn(markdown: string): Set<string> {
  const anchors = new Set<string>()
  for (const [, heading = ''] of withoutCode(markdown).matchAll(/^#{1,6} +(.+?) *$/gm)) {
    const text = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase()
    const anchor = text.replace(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, '').replaceAll(' ', '-')
    let unique = anchor
    for (let n = 1; anchors.has(unique); n++) unique = `${anchor}-${n}`
    anchors.add(unique)
  }
  return anchors
}

function withoutCode(markdown: string): string {
  return markdown.replace(/^ *(```+|~~~+)[\s\S]*?^ *\1/gm, '')
}
