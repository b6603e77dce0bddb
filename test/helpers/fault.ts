/** What an application may say in an error and nobody outside may hear. */
export const SECRET = 'the password is 1234'

/** The ways in which something of the application fails. */
export const WAYS = {
  throws: (): never => {
    throw new Error(SECRET)
  },
  rejects: async (): Promise<never> => {
    await null
    throw new Error(SECRET)
  }
} as const

export type Fail = () => unknown
