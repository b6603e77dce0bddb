import { EventEmitter } from 'node:events'
import { BINARY_TYPES, type BinaryType, type EventData, type Message } from './codec.js'

export interface WebSocketEvent<Target> {
  readonly type: string
  readonly target: Target
}

export interface MessageEvent<Target, Data = EventData<Message>> extends WebSocketEvent<Target> {
  /**
   * A string for text; for binary messages a value of the type that `binaryType` selects. With the schema `receive`, the
   * validated value.
   */
  readonly data: Data
}

export interface CloseEvent<Target> extends WebSocketEvent<Target> {
  readonly code: number
  readonly reason: string
  /** Whether the closing handshake was completed. */
  readonly wasClean: boolean
}

export interface ErrorEvent<Target> extends WebSocketEvent<Target> {
  readonly error: Error
  readonly message: string
}

/** The events that a browser's WebSocket has too. */
export interface EventMap<Target, Data = EventData<Message>> {
  open: WebSocketEvent<Target>
  message: MessageEvent<Target, Data>
  close: CloseEvent<Target>
  error: ErrorEvent<Target>
}

export type EventType = keyof EventMap<unknown>

export type EventListener<Event> = ((event: Event) => void) | { handleEvent(event: Event): void }

/** A listener of any event, whose event type is not known yet. */
type AnyListener = EventListener<never>
type Handler = (event: never) => void
type Adapter = (...args: unknown[]) => void

/** An emitter whatever its events are. */
interface Emitter {
  readonly on: (...args: never[]) => unknown
  readonly listeners: (...args: never[]) => unknown[]
  readonly removeListener: (...args: never[]) => unknown
}

/** The listeners that an emitter has in the manner of an event target, each through an adapter on the emitter. */
class EventListeners {
  readonly #emitter: Emitter
  readonly #adapters = new Map<EventType, Map<AnyListener, Adapter>>()
  readonly #attributes = new Map<EventType, { readonly listener: Handler; readonly held: Handler }>()

  constructor(emitter: Emitter) {
    this.#emitter = emitter
  }

  /** Adding a listener again has no effect, as in a browser. */
  add(type: EventType, listener: AnyListener, once: boolean): void {
    const adapters = this.#adapters.get(type) ?? new Map<AnyListener, Adapter>()
    const known = adapters.get(listener)
    // `removeAllListeners` removes these entries.
    if (known !== undefined && Reflect.apply(this.#emitter.listeners, this.#emitter, [type]).includes(known))
      return
    const adapter: Adapter = (...args) => {
      if (once) this.remove(type, listener)
      const event = eventOf(this.#emitter, type, args)
      if (typeof listener === 'function') return Reflect.apply(listener, this.#emitter, [event])
      return Reflect.apply(listener.handleEvent, listener, [event])
    }
    this.#adapters.set(type, adapters.set(listener, adapter))
    Reflect.apply(this.#emitter.on, this.#emitter, [type, adapter])
  }

  remove(type: EventType, listener: AnyListener): void {
    const adapter = this.#adapters.get(type)?.get(listener)
    if (adapter === undefined) return
    this.#adapters.get(type)?.delete(listener)
    Reflect.apply(this.#emitter.removeListener, this.#emitter, [type, adapter])
  }

  /** The listener that an `on…` attribute holds: `setAttribute` was given it for an event of this type. */
  attribute(type: EventType): AnyEventHandler {
    return (this.#attributes.get(type)?.listener ?? null) as AnyEventHandler
  }

  setAttribute(type: EventType, listener: Handler | null): void {
    const previous = this.#attributes.get(type)
    if (previous !== undefined) this.remove(type, previous.held)
    this.#attributes.delete(type)
    if (typeof listener !== 'function') return
    // A separate function: the same listener may be added with `addEventListener`, too.
    const held: Handler = event => Reflect.apply(listener, this.#emitter, [event])
    this.#attributes.set(type, { listener, held })
    this.add(type, held, false)
  }
}

/** The value of an `on…` attribute. */
export type EventHandler<Event> = ((event: Event) => void) | null

/**
 * The value of an `on…` attribute. It does not say which event the listener takes, because otherwise a WebSocket would not be assignable
 * to that of `ws`, whose events have its own class as their target.
 */
export type AnyEventHandler = ((event: object) => void) | null

/** An emitter with the events of `ws` that can also be used like a browser's WebSocket. */
export class EventTargetEmitter<
  Events extends Record<keyof Events, unknown[]>,
  Data = EventData<Message>
> extends EventEmitter<Events> {
  #listeners: EventListeners | undefined

  #binaryType: BinaryType = 'nodebuffer'

  /**
   * The type of binary messages: `nodebuffer` (default), `arraybuffer`, or `fragments`, a list of Buffers. Any other value
   * is ignored, as in a browser and in `ws`.
   */
  get binaryType(): BinaryType {
    return this.#binaryType
  }
  set binaryType(type: BinaryType) {
    if (BINARY_TYPES.includes(type)) this.#binaryType = type
  }

  get #eventListeners(): EventListeners {
    this.#listeners ??= new EventListeners(this)
    return this.#listeners
  }

  /** @param listener a function, or an object with a `handleEvent` method. */
  addEventListener<Type extends EventType>(
    type: Type,
    listener: EventListener<EventMap<this, Data>[Type]>,
    options?: { readonly once?: boolean | undefined }
  ): void {
    this.#eventListeners.add(type, listener, options?.once === true)
  }

  removeEventListener<Type extends EventType>(
    type: Type,
    listener: EventListener<EventMap<this, Data>[Type]>
  ): void {
    this.#eventListeners.remove(type, listener)
  }

  get onopen(): AnyEventHandler {
    return this.#eventListeners.attribute('open')
  }
  set onopen(listener: EventHandler<WebSocketEvent<this>>) {
    this.#eventListeners.setAttribute('open', listener)
  }

  get onmessage(): AnyEventHandler {
    return this.#eventListeners.attribute('message')
  }
  set onmessage(listener: EventHandler<MessageEvent<this, Data>>) {
    this.#eventListeners.setAttribute('message', listener)
  }

  get onclose(): AnyEventHandler {
    return this.#eventListeners.attribute('close')
  }
  set onclose(listener: EventHandler<CloseEvent<this>>) {
    this.#eventListeners.setAttribute('close', listener)
  }

  get onerror(): AnyEventHandler {
    return this.#eventListeners.attribute('error')
  }
  set onerror(listener: EventHandler<ErrorEvent<this>>) {
    this.#eventListeners.setAttribute('error', listener)
  }
}

function eventOf(target: Emitter, type: EventType, args: readonly unknown[]): unknown {
  switch (type) {
    case 'open':
      return { type, target }
    case 'message': {
      const [data, isBinary] = args
      // On a route with the schema `receive`, a message is a value.
      return { type, target, data: isBinary !== true && Buffer.isBuffer(data) ? String(data) : data }
    }
    case 'close': {
      const [code, reason] = args
      return { type, target, code, reason: String(reason), wasClean: code !== 1006 }
    }
    case 'error': {
      const [error] = args
      return { type, target, error, message: error instanceof Error ? error.message : String(error) }
    }
  }
}
