import type { ExtensionOffer } from './extension.js'

/** The name of the extension, RFC 7692 section 7. */
export const PERMESSAGE_DEFLATE = 'permessage-deflate'

/** The options of this side for the extension, in either role. */
export interface DeflateOptions {
  /** The server compresses each message on its own. */
  readonly serverNoContextTakeover: boolean
  /** The client compresses each message on its own. */
  readonly clientNoContextTakeover: boolean
  /** The largest window that the server compresses with, as base-2 logarithm, 9 to 15. */
  readonly serverMaxWindowBits: number
  /** The largest window that the client compresses with, as base-2 logarithm, 9 to 15. */
  readonly clientMaxWindowBits: number
}

/** The negotiated parameters, RFC 7692 section 7.1. */
export interface DeflateParameters {
  /** The server compresses each message on its own. */
  readonly serverNoContextTakeover: boolean
  /** The client compresses each message on its own. */
  readonly clientNoContextTakeover: boolean
  /**
   * The largest window that the server compresses with, 8 to 15; never 8 when this side is the server. The inflating
   * side may use a larger window, and has to do so for 8, because the smallest window of zlib is 9.
   */
  readonly serverMaxWindowBits: number
  /** The same for the client; never 8 when this side is the client. */
  readonly clientMaxWindowBits: number
}

/** Known parameters, each once: those with a window have its bits, the others `undefined`. */
type ParameterMap = ReadonlyMap<string, number | undefined>

const SERVER_NO_CONTEXT_TAKEOVER = 'server_no_context_takeover'
const CLIENT_NO_CONTEXT_TAKEOVER = 'client_no_context_takeover'
const SERVER_MAX_WINDOW_BITS = 'server_max_window_bits'
const CLIENT_MAX_WINDOW_BITS = 'client_max_window_bits'

/** The window of DEFLATE itself, in use where no parameter says otherwise (7.1.2.1, 7.1.2.2). */
const LARGEST_WINDOW = 15

/** The window that raw deflate in zlib cannot do: it takes 9 instead, and the peer would not follow. */
const IMPOSSIBLE_WINDOW = 8

/** 7.1.2.1: a decimal integer without leading zeros, from 8 to 15. */
const WINDOW_BITS = /^(?:[89]|1[0-5])$/

/**
 * The server's choice: the first of the client's offers that can be accepted, in the client's order.
 * @returns the agreed parameters and the element of `Sec-WebSocket-Extensions` that says so; undefined declines all.
 */
export function acceptDeflate(
  offers: readonly ExtensionOffer[],
  options: DeflateOptions
): { readonly parameters: DeflateParameters; readonly response: string } | undefined {
  for (const { name, parameters } of offers) {
    const offer = name === PERMESSAGE_DEFLATE ? readParameters(parameters) : undefined
    // 7.1: an invalid or unacceptable offer is declined, and the next one may be accepted.
    if (offer === undefined || offer.get(SERVER_MAX_WINDOW_BITS) === IMPOSSIBLE_WINDOW) continue
    const agreed = agree(offer, options)
    return { parameters: agreed, response: answerElement(agreed, offer) }
  }
  return undefined
}

/** 7.1.1 and 7.1.2: what holds for both sides once the server accepts an offer. */
function agree(offer: ParameterMap, options: DeflateOptions): DeflateParameters {
  return {
    serverNoContextTakeover: offer.has(SERVER_NO_CONTEXT_TAKEOVER) || options.serverNoContextTakeover,
    // 7.1.1.2: in an offer it is only a hint; in the answer it binds the client, so that the server can free the window.
    clientNoContextTakeover: offer.has(CLIENT_NO_CONTEXT_TAKEOVER) || options.clientNoContextTakeover,
    serverMaxWindowBits: smaller(offer.get(SERVER_MAX_WINDOW_BITS), options.serverMaxWindowBits),
    // 7.1.2.2: a client that did not offer the parameter cannot be limited, whatever the options want.
    clientMaxWindowBits: offer.has(CLIENT_MAX_WINDOW_BITS)
      ? smaller(offer.get(CLIENT_MAX_WINDOW_BITS), options.clientMaxWindowBits)
      : LARGEST_WINDOW
  }
}

function smaller(offered: number | undefined, wanted: number): number {
  return offered === undefined ? wanted : Math.min(offered, wanted)
}

/** A window is answered when the client named one, and when it says more than silence would. */
function answerElement(agreed: DeflateParameters, offer: ParameterMap): string {
  const { serverMaxWindowBits, clientMaxWindowBits } = agreed
  let element = PERMESSAGE_DEFLATE + takeoverParameters(agreed)
  // 7.1.2.1: the server may also state a window without a request.
  if (serverMaxWindowBits < LARGEST_WINDOW || offer.has(SERVER_MAX_WINDOW_BITS)) {
    element += `; ${SERVER_MAX_WINDOW_BITS}=${serverMaxWindowBits}`
  }
  if (clientMaxWindowBits < LARGEST_WINDOW || offer.get(CLIENT_MAX_WINDOW_BITS) !== undefined) {
    element += `; ${CLIENT_MAX_WINDOW_BITS}=${clientMaxWindowBits}`
  }
  return element
}

/** The client's offer, as the value of `Sec-WebSocket-Extensions`. */
export function offerDeflate(options: DeflateOptions): string {
  const { serverMaxWindowBits, clientMaxWindowBits } = options
  let element = PERMESSAGE_DEFLATE + takeoverParameters(options)
  if (serverMaxWindowBits < LARGEST_WINDOW) element += `; ${SERVER_MAX_WINDOW_BITS}=${serverMaxWindowBits}`
  // 7.1.2.2: always offered, as it lets the server choose a smaller window; a value only where it limits.
  element += `; ${CLIENT_MAX_WINDOW_BITS}`
  return clientMaxWindowBits < LARGEST_WINDOW ? `${element}=${clientMaxWindowBits}` : element
}

function takeoverParameters(from: DeflateOptions | DeflateParameters): string {
  const server = from.serverNoContextTakeover ? `; ${SERVER_NO_CONTEXT_TAKEOVER}` : ''
  return from.clientNoContextTakeover ? `${server}; ${CLIENT_NO_CONTEXT_TAKEOVER}` : server
}

/**
 * Checks a server's answer to {@link offerDeflate} with the same options, RFC 7692 section 7.1. A response without the
 * header declined the extension and must not be passed to this function.
 * @returns the agreed parameters, or a sentence with the reason why the connection fails.
 */
export function checkDeflateAnswer(
  answer: readonly ExtensionOffer[],
  options: DeflateOptions
): { readonly parameters: DeflateParameters } | { readonly failure: string } {
  if (answer.some(({ name }) => name !== PERMESSAGE_DEFLATE)) {
    return { failure: 'The server chose an extension that was not offered.' }
  }
  if (answer.length !== 1) return { failure: 'The server did not answer permessage-deflate exactly once.' }
  const given = readParameters(answer[0].parameters)
  // 7.1.2.2: it may only occur without a value in an offer.
  const isBare = given?.has(CLIENT_MAX_WINDOW_BITS) && given.get(CLIENT_MAX_WINDOW_BITS) === undefined
  if (given === undefined || isBare) {
    return { failure: 'The server answered permessage-deflate with parameters that are not valid.' }
  }
  return keepOffer(given, options)
}

/**
 * 7.1.1.1 and 7.1.2: an answer fails when it requires more of the client than was offered, or grants less than was
 * requested.
 */
function keepOffer(
  given: ParameterMap,
  options: DeflateOptions
): { readonly parameters: DeflateParameters } | { readonly failure: string } {
  const serverNoContextTakeover = given.has(SERVER_NO_CONTEXT_TAKEOVER)
  if (options.serverNoContextTakeover && !serverNoContextTakeover) {
    return { failure: 'The server did not accept server_no_context_takeover.' }
  }
  // 7.1.2.1: a server that says nothing may use the largest window, also when a smaller one was offered.
  const serverMaxWindowBits = given.get(SERVER_MAX_WINDOW_BITS) ?? LARGEST_WINDOW
  // 7.1.1.2 and 7.1.2.2: the client keeps what its offer announced when the answer is silent.
  const clientNoContextTakeover = given.has(CLIENT_NO_CONTEXT_TAKEOVER) || options.clientNoContextTakeover
  const clientMaxWindowBits = given.get(CLIENT_MAX_WINDOW_BITS) ?? options.clientMaxWindowBits
  if (
    serverMaxWindowBits > options.serverMaxWindowBits ||
    clientMaxWindowBits > options.clientMaxWindowBits
  ) {
    return { failure: 'The server chose a larger window than was offered.' }
  }
  if (clientMaxWindowBits === IMPOSSIBLE_WINDOW) {
    return { failure: 'The server chose a window that the client cannot compress with.' }
  }
  return {
    parameters: { serverNoContextTakeover, clientNoContextTakeover, serverMaxWindowBits, clientMaxWindowBits }
  }
}

/** 7.1: undefined when a parameter is unknown, repeated or has a value that is not valid, in an offer or an answer. */
function readParameters(parameters: ExtensionOffer['parameters']): ParameterMap | undefined {
  const read = new Map<string, number | undefined>()
  for (const [name, value] of parameters) {
    if (read.has(name) || !isValid(name, value)) return undefined
    read.set(name, value === undefined ? undefined : Number(value))
  }
  return read
}

function isValid(name: string, value: string | undefined): boolean {
  switch (name) {
    case SERVER_NO_CONTEXT_TAKEOVER:
    case CLIENT_NO_CONTEXT_TAKEOVER:
      return value === undefined
    case SERVER_MAX_WINDOW_BITS:
      return value !== undefined && WINDOW_BITS.test(value)
    case CLIENT_MAX_WINDOW_BITS:
      return value === undefined || WINDOW_BITS.test(value)
    default:
      return false
  }
}
