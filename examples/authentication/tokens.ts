import { createHash, timingSafeEqual } from 'node:crypto'

/** The user of a token, and its expiry in milliseconds since 1970. */
export interface Grant {
  readonly user: string
  readonly expires: number
}

declare module 'fastify' {
  interface FastifyRequest {
    grant: Grant | undefined
  }
}

/** Stores hashes of tokens, so that a leaked store does not reveal them. */
export class Tokens {
  #known: { readonly hash: Buffer; readonly grant: Grant; readonly until: number }[] = []

  /** @param until when the token itself expires, if that is before the grant expires. */
  add(token: string, grant: Grant, until: number = grant.expires): void {
    this.#known = this.#known.filter(one => one.until > Date.now())
    this.#known.push({ hash: sha256(token), grant, until })
  }

  find(token: string): Grant | undefined {
    const one = this.#lookUp(token)
    return one !== undefined && Math.min(one.until, one.grant.expires) > Date.now() ? one.grant : undefined
  }

  /** Finds a token and invalidates it. */
  take(token: string): Grant | undefined {
    const grant = this.find(token)
    const used = this.#lookUp(token)
    this.#known = this.#known.filter(one => one !== used)
    return grant
  }

  #lookUp(token: string) {
    const hash = sha256(token)
    // The duration of the comparison does not depend on how much of a hash matches.
    return this.#known.find(one => timingSafeEqual(one.hash, hash))
  }
}

function sha256(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

/** The token of `Authorization: Bearer …`, or an empty string, which is never a valid token. */
export function bearer(authorization = ''): string {
  return /^Bearer ([\w~+/.-]+=*)$/i.exec(authorization)?.[1] ?? ''
}
