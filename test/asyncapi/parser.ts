import { Parser } from '@asyncapi/parser'
import type { Test } from 'tap'
import type { AsyncApiDocument } from '../../lib/asyncapi/index.js'

const parser = new Parser()

/** Checks that the parser of AsyncAPI takes a document, without an error or a warning. */
export async function checkDocument(t: Test, document: AsyncApiDocument | string): Promise<void> {
  const text = typeof document === 'string' ? document : JSON.stringify(document)
  const { document: parsed, diagnostics } = await parser.parse(text)
  t.strictSame(
    diagnostics.map(({ message, path }) => `${path.join('.')}: ${message}`),
    []
  )
  t.ok(parsed)
}
