/** Records uncaught exceptions and unhandled rejections during a test. */
export function watchProcess(t: { teardown(fn: () => void): unknown }): unknown[] {
  const uncaught: unknown[] = []
  const onError = (error: unknown): void => void uncaught.push(error)
  process.on('uncaughtException', onError)
  process.on('unhandledRejection', onError)
  t.teardown(() => {
    process.off('uncaughtException', onError)
    process.off('unhandledRejection', onError)
  })
  return uncaught
}
