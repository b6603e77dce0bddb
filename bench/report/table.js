/**
 * A table as plain text: names to the left, figures to the right. A row of fewer cells than the head ends in a remark,
 * which takes as much room as it needs.
 * @param {string[]} head
 * @param {string[][]} rows
 * @param {number} names how many columns are names.
 */
export function table(head, rows, names = 1) {
  const all = [head, ...rows]
  const widths = head.map((_, i) => Math.max(...all.map(row => (isRemark(row, i, head) ? 0 : row[i].length))))
  return all
    .map(row =>
      row.map((cell, i) =>
        i < names || isRemark(row, i, head) ? cell.padEnd(widths[i]) : cell.padStart(widths[i])
      )
    )
    .map(cells => `  ${cells.join('   ')}`.trimEnd())
    .join('\n')
}

/**
 * Whether a column of a row is its remark, or behind it.
 * @param {string[]} row
 * @param {number} column
 * @param {string[]} head
 */
function isRemark(row, column, head) {
  return row.length < head.length && column >= row.length - 1
}
