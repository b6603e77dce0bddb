/** Held here, so that tests which fake timers stop nothing that is sent or read. */
export const { setImmediate } = globalThis
