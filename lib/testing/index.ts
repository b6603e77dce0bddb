export { InjectInvalidResponseError, InjectRefusedError } from './error.js'
export { type Injectable, type InjectContext, type InjectOptions, inject } from './inject.js'
