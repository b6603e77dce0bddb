/** The first items in the order of a number, of which there may be many more. */
export class First<Item> {
  readonly #limit: number
  readonly #keyOf: (item: Item) => number
  #items: { readonly key: number; readonly item: Item }[] = []
  /** Items from this number on are not among the first. */
  #bound = Infinity

  constructor(limit: number, keyOf: (item: Item) => number) {
    this.#limit = limit
    this.#keyOf = keyOf
  }

  add(item: Item): void {
    const key = this.#keyOf(item)
    if (key >= this.#bound) return
    this.#items.push({ key, item })
    // Sorted rarely, and never more than twice the limit.
    if (this.#items.length >= 2 * this.#limit) this.#sort()
  }

  sorted(): readonly Item[] {
    this.#sort()
    return this.#items.map(({ item }) => item)
  }

  #sort(): void {
    // The sort is stable: of equal items, the earlier one stays.
    this.#items.sort((a, b) => a.key - b.key)
    if (this.#items.length < this.#limit) return
    this.#items.length = this.#limit
    this.#bound = this.#items.at(-1)?.key ?? -Infinity
  }
}
