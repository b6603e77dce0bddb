import { headerField } from '../protocol/handshake/header-field.js'
import { type Acceptance, acceptResponse } from '../protocol/handshake/response.js'
import { InvalidHeaderError } from '../upgrade/error.js'

/**
 * The head of a 101 that listeners of `headers` may change.
 * @param change given the lines of the head.
 * @throws {InvalidHeaderError} when a line is none of a head: such a line could let its author write another response.
 */
export function changedResponse(acceptance: Acceptance, change: (lines: string[]) => unknown): string {
  const [status = '', ...fields] = acceptResponse(acceptance).trimEnd().split('\r\n')
  const lines = [status, ...fields]
  change(lines)
  try {
    return `${status}\r\n${lines.slice(1).map(checkedField).join('')}\r\n`
  } catch (error) {
    throw new InvalidHeaderError(String(error))
  }
}

function checkedField(line: string): string {
  const [name = '', ...value] = String(line).split(':')
  return headerField(name, value.join(':').trim())
}
