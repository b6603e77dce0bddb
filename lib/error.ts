import createError, { type FastifyErrorConstructor } from '@fastify/error'

/** The arguments of an error class: one for each `%s` of its message. */
type Arguments<Message extends string> = Message extends `${string}%s${infer Rest}`
  ? [string | number, ...Arguments<Rest>]
  : []

type ErrorClass<Code extends string, Message extends string> = FastifyErrorConstructor<
  { code: `FST_UPGRADE_${Code}` },
  Arguments<Message>
>

interface ErrorOptions {
  readonly base?: ErrorConstructor
  readonly status?: number
  /** Whether the error has a stack trace. Default: true. */
  readonly hasStack?: boolean
}

/**
 * Defines an error. Each folder lists its errors in `error.ts`, and docs/reference/errors.md lists all of them.
 * @param code the code without `FST_UPGRADE_`.
 * @param message the problem, a semicolon, and what to do about it. The class takes an argument for each `%s`.
 */
export function defineError<const Code extends string, const Message extends string>(
  code: Code,
  message: Message,
  { base, status, hasStack }: ErrorOptions = {}
): ErrorClass<Code, Message> {
  return createError<`FST_UPGRADE_${Code}`, Arguments<Message>>(
    `FST_UPGRADE_${code}`,
    message,
    status,
    base,
    hasStack
  )
}

/** Defines the error of a refused handshake. A peer can cause many of these, so they have no stack trace. */
export function defineRefusal<const Code extends string, const Message extends string>(
  code: Code,
  status: number,
  message: Message
): ErrorClass<Code, Message> {
  return defineError(code, message, { status, hasStack: false })
}
