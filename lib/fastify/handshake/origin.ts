import type { FastifyRequest } from 'fastify'
import type { OriginRule, WebSocketOptions } from '../../../types/options.js'
import { invalidOption } from '../../options/error.js'

/** The option `origin`, with its rules as a list and with expressions that match a whole origin. */
export type OriginOption = Exclude<WebSocketOptions['origin'], OriginRule | undefined> | 'same-origin' | '*'

/** @returns undefined when the option is not set. */
export function readOrigin(option: WebSocketOptions['origin'], name: string): OriginOption | undefined {
  if (option === undefined || option === 'same-origin' || option === '*' || typeof option === 'function') {
    return option
  }
  const rules: readonly unknown[] = Array.isArray(option) ? option : [option]
  if (rules.length > 0 && rules.every(isRule)) return rules.map(anchored)
  throw invalidOption(name, expectation(rules.find(rule => !isRule(rule))), option)
}

/** Whether a page of `origin` may connect. */
export function isAllowed(
  origin: string,
  option: OriginOption,
  request: FastifyRequest
): boolean | Promise<boolean> {
  if (option === '*') return true
  if (option === 'same-origin') return isSameOrigin(origin, request)
  if (typeof option === 'function') return option(origin, request)
  return option.some(rule => (typeof rule === 'string' ? rule === origin : rule.test(origin)))
}

/**
 * The scheme is not compared: behind a proxy that terminates TLS, the server does not know the scheme of the page.
 */
function isSameOrigin(origin: string, request: FastifyRequest): boolean {
  const page = parse(origin)
  // A page of file:// has no host: in URLs of that scheme, URL drops the name `localhost`.
  if (page === undefined || page.host === '') return false
  return parse(`${page.protocol}//${request.host}`)?.host === page.host
}

function parse(url: string): URL | undefined {
  return URL.canParse(url) ? new URL(url) : undefined
}

/** An expression without anchors must not match `https://example.com.evil.test`. */
function anchored(rule: OriginRule): OriginRule {
  if (typeof rule === 'string') return rule
  return new RegExp(`^(?:${rule.source})$`, rule.flags.replace(/[gy]/g, ''))
}

/** A scheme and perhaps a host and a port, without a path: `file://`, `https://example.com`, `app://My-App`. */
const ORIGIN = /^[a-z][a-z\d+.-]*:\/\/[^/?#\s*]*$/i

/**
 * Whether a rule can equal an `Origin` header. For schemes such as https, it must have the form that URL produces: lower case,
 * ASCII, no default port. URL has no origin for other schemes, and clients differ: `file://` has no host, and
 * `safari-web-extension://` has an id in upper case.
 */
function isRule(rule: unknown): rule is OriginRule {
  if (rule instanceof RegExp || rule === 'null') return true
  if (typeof rule !== 'string' || !ORIGIN.test(rule)) return false
  const url = parse(rule)
  return url !== undefined && (url.origin === rule || url.origin === 'null')
}

/** Describes the values to use in place of an invalid rule. */
function expectation(wrong: unknown): string {
  if (typeof wrong === 'string' && wrong.includes('*'))
    return `a RegExp or a function where '${wrong}' stands for several origins`
  const origin = typeof wrong === 'string' ? originIn(wrong) : undefined
  if (origin !== undefined) return `an origin as clients send it, '${origin}' in place of '${wrong}'`
  return "'same-origin', '*', an origin such as 'https://example.com', a RegExp, a list of these, or a function"
}

/** The origin of a URL, or of a host and a port. */
function originIn(text: string): string | undefined {
  const url = parse(text.includes('://') ? text : `https://${text}`)
  if (url === undefined) return undefined
  return url.origin === 'null' ? `${url.protocol}//${url.host}` : url.origin
}
