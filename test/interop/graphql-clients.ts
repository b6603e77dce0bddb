import { type Client, createClient } from 'graphql-ws'
import { SubscriptionClient } from 'subscriptions-transport-ws'
import type { Test } from 'tap'
import { WebSocket } from 'ws'
import { Signal, withDeadline } from '../helpers/app.js'

/** A client of GraphQL over WebSocket, for either protocol. */
export interface GraphqlClient {
  readonly protocol: string
  /** The data of all results when the server has completed the operation, or of the first few. */
  results(query: string, count?: number): Promise<unknown[]>
  close(): void
}

export type MakeGraphqlClient = (t: Test, url: string, token?: string) => GraphqlClient

/** Checks that no result has an error, and returns the data. */
function dataOf({ data, errors }: { readonly data?: unknown; readonly errors?: unknown }): unknown {
  if (errors !== undefined) throw new Error(JSON.stringify(errors))
  // Without the prototype, which some executors leave out.
  return JSON.parse(JSON.stringify(data))
}

/** The protocol graphql-transport-ws, with graphql-ws. */
export const makeTransportClient: MakeGraphqlClient = (t, url, token) => {
  const client: Client = createClient({
    url,
    webSocketImpl: WebSocket,
    retryAttempts: 0,
    connectionParams: { token },
    onNonLazyError: () => {}
  })
  t.teardown(() => client.dispose())
  const collect = async (query: string, count: number): Promise<unknown[]> => {
    const results: unknown[] = []
    for await (const result of client.iterate({ query })) {
      if (results.push(dataOf(result)) === count) break
    }
    return results
  }
  return {
    protocol: 'graphql-transport-ws',
    results: (query, count = Infinity) => withDeadline(collect(query, count), 10_000, query),
    close: () => void client.dispose()
  }
}

/** The older protocol graphql-ws, with subscriptions-transport-ws. */
export const makeLegacyClient: MakeGraphqlClient = (t, url, token) => {
  const failed = new Signal<unknown>()
  const client = new SubscriptionClient(
    url,
    { reconnect: false, connectionParams: { token }, connectionCallback: errors => failed.fire(errors) },
    WebSocket
  )
  t.teardown(() => client.close())
  const collect = (query: string, count: number): Promise<unknown[]> =>
    new Promise((resolve, reject) => {
      const results: unknown[] = []
      const { unsubscribe } = client.request({ query }).subscribe({
        next: result => {
          if (results.push(dataOf(result)) < count) return
          unsubscribe()
          resolve(results)
        },
        error: reject,
        complete: () => resolve(results)
      })
      void failed.promise.then(errors => errors && reject(errors))
    })
  return {
    protocol: 'graphql-ws',
    results: (query, count = Infinity) => withDeadline(collect(query, count), 10_000, query),
    close: () => client.close()
  }
}
