import { defineError } from '../error.js'

export const DocumentNotReadyError = defineError(
  'ASYNCAPI_NOT_READY',
  'app.asyncapi() was called before all routes were declared; call it after "await app.ready()".'
)
export const UnresolvedReferenceError = defineError(
  'UNRESOLVED_REFERENCE',
  '%s refers to "%s", which does not exist; add the schema with "app.addSchema" in the scope of the route, or correct the reference.'
)
export const UnsupportedSchemaError = defineError(
  'UNSUPPORTED_SCHEMA',
  '%s is not a JSON Schema and cannot be converted to one%s; convert it with the option "transform" of fastify-upgrade/asyncapi.',
  { base: TypeError }
)
export const UnknownSecuritySchemeError = defineError(
  'UNKNOWN_SECURITY_SCHEME',
  'The security of GET %s names "%s", which is not described; add it to "components.securitySchemes" of fastify-upgrade/asyncapi.'
)
export const MissingComponentError = defineError(
  'ASYNCAPI_PAGE_MISSING',
  'The documentation page needs @asyncapi/react-component; run "npm install @asyncapi/react-component", or set "page: false" to serve only the document.'
)
