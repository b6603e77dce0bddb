/** A secret in an error of the application, which must not leave the server. */
export const SECRET = 'the password is 1234'

/** The ways in which application code fails. */
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
