import type { BudgetOptions, ConnectionOptions } from './connection-options.js'
import { readOptions, type ValuesOf } from './option.js'
import { BUDGET_OPTIONS, CONNECTION_OPTIONS } from './table.js'

/** The options of a connection with every default filled in. */
export interface ConnectionSettings extends ValuesOf<typeof CONNECTION_OPTIONS> {}

/**
 * @param prefix the part of an option's name before its own, in an error.
 * @param inherited the values of options that are not set.
 */
export function readConnectionSettings(
  options: ConnectionOptions,
  prefix: string,
  inherited?: ConnectionSettings
): ConnectionSettings {
  return readOptions(CONNECTION_OPTIONS, options, { prefix, inherited })
}

export function readTotalBufferedAmount(options: BudgetOptions): number {
  return readOptions(BUDGET_OPTIONS, options, { prefix: '' }).maxTotalBufferedAmount
}
