import { createHash, timingSafeEqual } from 'node:crypto'
import type { WebSocket } from 'fastify-upgrade'

/** Whom a token stands for, and until when, in milliseconds since 1970. */
export interface Grant {
  readonly user: string
  readonly expires: number
}

declare module 'fastify' {
  interface FastifyRequest {
    grant: Grant | undefined
  }
}

/** Keeps hashes of tokens, so that what is kept here opens nothing. */
export class Tokens {
  #known: { readonly hash: Buffer; readonly grant: Grant; readonly until: number }[] = []

  /** @param until when the token itself ends, if that is before the grant. */
  add(token: string, grant: Grant, until: number = grant.expires): void {
    this.#known = this.#known.filter(one => one.until > Date.now())
    this.#known.push({ hash: sha256(token), grant, until })
  }

  find(token: string): Grant | undefined {
    const one = this.#lookUp(token)
    return one !== undefined && Math.min(one.until, one.grant.expires) > Date.now() ? one.grant : undefined
  }

  /** Finds a token and makes it void. */
  take(token: string): Grant | undefined {
    const grant = this.find(token)
    const used = this.#lookUp(token)
    this.#known = this.#known.filter(one => one !== used)
    return grant
  }

  #lookUp(token: string) {
    const hash = sha256(token)
    // The hashes have equal lengths, and the time that it takes does not tell how much of one is right.
    return this.#known.find(one => timingSafeEqual(one.hash, hash))
  }
}

function sha256(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

/** The token of `Authorization: Bearer …`; an empty text, which is nobody's, when there is none. */
export function bearer(authorization = ''): string {
  return /^Bearer ([\w~+/.-]+=*)$/i.exec(authorization)?.[1] ?? ''
}

/** Closes a connection when its credentials end. 4401 is ours, in the likeness of the status 401. */
export function closeAt(socket: WebSocket, time: number): void {
  let timer: NodeJS.Timeout
  const wait = () => {
    const left = time - Date.now()
    if (left <= 0) socket.close(4401, 'expired')
    // A timer cannot be longer than 24 days.
    else timer = setTimeout(wait, Math.min(left, 2 ** 31 - 1))
  }
  socket.on('close', () => clearTimeout(timer))
  wait()
}
