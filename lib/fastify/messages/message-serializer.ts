import { InvalidDataError, toError } from '../../socket/error.js'
import { PreparedMessage } from '../../socket/prepared-message.js'
import { SerializationError } from '../error.js'

const BYTES =
  'a value of the schema "send"; for bytes, send what prepare() returns for them, or write to socket.stream()'
const STRUCTURE = 'the object or the list that the schema "send" describes, not its JSON'

/** Serializes the messages of a route with the schema `send`. */
export class MessageSerializer {
  readonly #url: string
  readonly #serialize: (value: unknown) => unknown
  readonly #isStructure: boolean

  /** @param schema the schema from which `serialize` was compiled. */
  constructor(url: string, schema: unknown, serialize: (value: unknown) => unknown) {
    this.#url = url
    this.#serialize = serialize
    const type: unknown = Reflect.get(Object(schema), 'type')
    const isNullable = Reflect.get(Object(schema), 'nullable') === true
    this.#isStructure = (type === 'object' || type === 'array') && !isNullable
  }

  /**
   * The text of a message. A prepared message is one already.
   * @throws {InvalidDataError} for bytes, for anything but an object where the schema describes an object or a list, and for
   * a value without a form in JSON.
   * @throws {SerializationError} when the value does not match the schema.
   */
  encode(value: unknown): string | PreparedMessage {
    if (value instanceof PreparedMessage) return value
    if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) throw new InvalidDataError('bytes', BYTES)
    // Fastify's serializers would make `{}` of them.
    if (this.#isStructure && (typeof value !== 'object' || value === null))
      throw new InvalidDataError(value === null ? 'null' : typeof value, STRUCTURE)
    const text = this.#serialized(value)
    if (typeof text !== 'string') throw new InvalidDataError(typeof value, 'a value of the schema "send"')
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
