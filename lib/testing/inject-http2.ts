import type { IncomingHttpHeaders } from 'node:http'
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2'
import type { Duplex } from 'node:stream'
import { text } from 'node:stream/consumers'
import { type ClientHandshake, connectFields } from '../protocol/handshake/client-handshake.js'
import { InjectHttp2Error, InjectRefusedError } from './error.js'

/** The answer to an extended CONNECT that is accepted. */
export interface Http2Answer {
  readonly stream: Duplex
  readonly headers: IncomingHttpHeaders
}

/**
 * Opens a session of HTTP/2 on a connection, and a stream with an extended CONNECT on it, RFC 8441. The session ends with
 * the stream.
 * @throws {InjectHttp2Error} when the server does not announce extended CONNECT.
 * @throws {InjectRefusedError} when the server refuses.
 */
export async function connectHttp2(
  connection: Duplex,
  path: string,
  handshake: ClientHandshake
): Promise<Http2Answer> {
  const session = connect('http://localhost', { createConnection: () => connection })
  try {
    await announced(session)
    const stream = session.request({ ...connectFields(handshake), ':path': path })
    stream.once('close', () => session.close())
    return { stream, headers: await answered(stream) }
  } catch (error) {
    session.destroy()
    throw error
  }
}

function announced(session: ClientHttp2Session): Promise<void> {
  return new Promise((resolve, reject) => {
    session.on('error', reject)
    session.once('remoteSettings', ({ enableConnectProtocol }) => {
      if (enableConnectProtocol === true) resolve()
      else reject(new InjectHttp2Error())
    })
  })
}

function answered(stream: ClientHttp2Stream): Promise<IncomingHttpHeaders> {
  return new Promise((resolve, reject) => {
    stream.on('error', reject)
    stream.once('close', () => reject(new Error('The server has closed the stream without an answer.')))
    stream.once('response', headers => {
      const status = Number(headers[':status'])
      if (status === 200) resolve(headers)
      else text(stream).then(body => reject(new InjectRefusedError(status, headers, body)), reject)
    })
  })
}
