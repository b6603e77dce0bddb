import type { FastifyRequest } from 'fastify'
import type { OriginRule, WebSocketOptions } from '../../types/options.js'
import { invalidOption } from '../transport/error.js'

/** The option `origin` with a single rule made a list, and expressions made ones that match the whole of an origin. */
export type OriginOption = Exclude<WebSocketOptions['origin'], OriginRule | undefined> | 'same-origin' | '*'

/** @returns undefined when the option is not set. */
export function readOrigin(option: WebSocketOptions['origin'], name: string): OriginOption | undefined {
  if (option === undefined || option === 'same-origin' || option === '*' || typeof option === 'function') {
    return option
  }
  const rules: readonly unknown[] = Array.isArray(option) ? option : [option]
  if (rules.length > 0 && rules.every(isRule)) return rules.map(anchored)
  throw invalidOption(
    name,
    "'same-origin', '*', an origin such as 'https://example.com', a RegExp, a list of these, or a function",
    option
  )
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
 * The scheme is not compared: behind a proxy that ends TLS the server does not know which one the page was served with.
 */
function isSameOrigin(origin: string, request: FastifyRequest): boolean {
  const page = parse(origin)
  const own = page && parse(`${page.protocol}//${request.host}`)
  return own !== undefined && own.host === page?.host
}

function parse(url: string): URL | undefined {
  return URL.canParse(url) ? new URL(url) : undefined
}

/** An expression without anchors must not let `https://example.com.evil.test` in. */
function anchored(rule: OriginRule): OriginRule {
  if (typeof rule === 'string') return rule
  return new RegExp(`^(?:${rule.source})$`, rule.flags.replace(/[gy]/g, ''))
}

/** A rule that no Origin header can equal is a mistake: browsers send the scheme, lower case and no path. */
function isRule(rule: unknown): rule is OriginRule {
  if (rule instanceof RegExp) return true
  return typeof rule === 'string' && (rule === 'null' || parse(rule)?.origin === rule || isOpaque(rule))
}

/** Schemes that URL knows no origin of, such as `chrome-extension://id` and `capacitor://localhost`. */
function isOpaque(rule: string): boolean {
  return /^[a-z][a-z\d+.-]*:\/\/[^/?#\s]+$/.test(rule) && parse(rule)?.origin === 'null'
}
