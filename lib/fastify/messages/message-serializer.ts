import { InvalidDataError, toError } from '../../socket/error.js'
import { PreparedMessage } from '../../socket/prepared-message.js'
import { SerializationError } from '../error.js'

const BYTES =
  'a value of the schema "send"; for bytes, send what prepare() returns for them, or write to socket.stream()'
const STRUCTURE = 'the object or the list that the schema "send" describes, not its JSON'
const JSON_VALUE = 'a value of the schema "send"'

/** Serializes the messages of a route with the schema `send`. */
export class MessageSerializer {
  readonly #url: string
  readonly #serialize: (value: unknown) => unknown
  /** The type of the values, where the schema says at once that they are objects or lists. */
  readonly #structure: 'object' | 'array' | undefined
  /** Whether the schema may lead to an object in other words. Serializers of the application may make one of any value. */
  readonly #isIndirect: boolean

  /** @param schema the schema from which `serialize` was compiled. */
  constructor(url: string, schema: unknown, serialize: (value: unknown) => unknown) {
    this.#url = url
    this.#serialize = serialize
    const type: unknown = Reflect.get(Object(schema), 'type')
    const isNullable = Reflect.get(Object(schema), 'nullable') === true
    this.#structure = (type === 'object' || type === 'array') && !isNullable ? type : undefined
    this.#isIndirect = isNullable || '$ref' in Object(schema) || 'allOf' in Object(schema)
  }

  /**
   * The text of a message. A prepared message is one already.
   * @throws {InvalidDataError} for bytes, for anything else where the schema describes an object or a list, and for a value
   * without a form in JSON.
   * @throws {SerializationError} when the value does not match the schema.
   */
  encode(value: unknown): string | PreparedMessage {
    if (value instanceof PreparedMessage) return value
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer || value instanceof SharedArrayBuffer)
      throw new InvalidDataError('bytes', BYTES)
    const type = typeOf(value)
    if (this.#structure !== undefined && type !== 'object' && type !== this.#structure)
      throw new InvalidDataError(type, STRUCTURE)
    const text = this.#serialized(value)
    // A serializer of Fastify makes the text `undefined` of a value without a form in JSON.
    if (typeof text !== 'string' || text === 'undefined') throw new InvalidDataError(type, JSON_VALUE)
    // Of anything else, it makes `{}` where the schema describes an object, such as by a reference.
    if (this.#isIndirect && type !== 'object' && text.startsWith('{'))
      throw new InvalidDataError(type, STRUCTURE)
    return text
  }

  #serialized(value: unknown): unknown {
    try {
      return this.#serialize(value)
    } catch (thrown) {
      const cause = toError(thrown)
      const error = new SerializationError(this.#url, cause.message)
      error.cause = cause
      throw error
    }
  }
}

function typeOf(value: unknown): string {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'array' : typeof value
}
