import type { Doc } from 'yjs'
import { withDeadline } from '../helpers/app.js'

/** Resolves when the text `t` of each document is as expected. */
export async function converge(docs: readonly Doc[], expected: string): Promise<void> {
  const one = (doc: Doc): Promise<void> =>
    new Promise(resolve => {
      const check = (): void => {
        if (doc.getText('t').toString() === expected) resolve()
      }
      doc.on('update', check)
      check()
    })
  await withDeadline(Promise.all(docs.map(one)), 10_000, `text ${expected.slice(0, 40)}`)
}
