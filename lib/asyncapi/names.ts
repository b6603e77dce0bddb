/** A name with the characters that AsyncAPI allows in the name of a component. */
export function toName(text: string): string {
  return text.replace(/[^\w.-]+/g, '-').replace(/^[-._]+|[-._]+$/g, '')
}

/** Makes a name of a text, with a number behind it where `taken` has the name, and takes it. */
export function uniqueName(text: string, taken: Set<string>): string {
  const wanted = toName(text) || 'schema'
  let name = wanted
  for (let n = 2; taken.has(name); n++) name = `${wanted}-${n}`
  taken.add(name)
  return name
}
