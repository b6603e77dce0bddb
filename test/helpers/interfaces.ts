import ts from 'typescript'

/** A property of an interface, with its comment as one line. */
export interface Property {
  readonly name: string
  readonly comment: string
}

/** The own properties of an interface in a TypeScript file. */
export function propertiesOf(source: string, interfaceName: string): readonly Property[] {
  const file = ts.createSourceFile('source.ts', source, ts.ScriptTarget.Latest, true)
  const found = file.statements.find(
    statement => ts.isInterfaceDeclaration(statement) && statement.name.text === interfaceName
  )
  if (found === undefined || !ts.isInterfaceDeclaration(found))
    throw new Error(`no interface ${interfaceName}`)
  return found.members.flatMap(member =>
    member.name !== undefined && ts.isIdentifier(member.name)
      ? [{ name: member.name.text, comment: commentOf(member) }]
      : []
  )
}

function commentOf(member: ts.Node): string {
  const texts = ts
    .getJSDocCommentsAndTags(member)
    .map(doc => (ts.isJSDoc(doc) ? ts.getTextOfJSDocComment(doc.comment) : undefined))
  return (texts.at(-1) ?? '').replace(/\s+/g, ' ')
}
