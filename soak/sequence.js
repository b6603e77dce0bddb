import { isIntact, readHead } from './message.js'

/** @typedef {'lost' | 'repeated' | 'reordered' | 'altered' | 'misdelivered'} Fault */

/** Checks that numbers arrive in sequence, and reports deviations. */
export class Sequence {
  /** The next expected number. */
  next
  /** The count of received numbers. */
  count = 0
  #missing = new Set()
  /** @type {Partial<Record<Fault, number>>} */
  faults = {}

  /** @param {number | null} first null: any first number. */
  constructor(first = 0) {
    this.next = first
  }

  /** @param {number} seq */
  accept(seq) {
    this.count++
    this.next ??= seq
    if (seq >= this.next) {
      for (let missing = this.next; missing < seq; missing++) this.#missing.add(missing)
      this.next = seq + 1
    } else {
      this.note(this.#missing.delete(seq) ? 'reordered' : 'repeated')
    }
  }

  /**
   * A message of a connection's echo.
   * @param {Buffer} data
   * @param {boolean} isBinary
   * @param {number} id the connection's.
   */
  acceptMessage(data, isBinary, id) {
    const head = readHead(data)
    if (head.kind !== 'e') this.note('altered')
    else if (head.id !== id) this.note('misdelivered')
    else {
      if (!isIntact(data, isBinary, id, head.seq)) this.note('altered')
      this.accept(head.seq)
    }
  }

  /** @param {Fault} fault */
  note(fault) {
    this.faults[fault] = (this.faults[fault] ?? 0) + 1
  }

  /** The problems so far, including skipped numbers. */
  get problems() {
    const lost = this.#missing.size
    return lost > 0 ? { ...this.faults, lost: (this.faults.lost ?? 0) + lost } : this.faults
  }
}
