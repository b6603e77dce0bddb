// Connections over TLS. The certificate of the server is its own, so it is not verified.
import { once } from 'node:events'
import * as http2 from 'node:http2'
import * as net from 'node:net'
import * as tls from 'node:tls'

/** @typedef {import('./connection.js').Connect} Connect */

const HOST = '127.0.0.1'
const secureContext = tls.createSecureContext()

/**
 * A TLS connection for each WebSocket. No session is resumed.
 * @type {Connect}
 */
export function connectTls({ port }, { onConnect, onRead, onError, onEnd }) {
  const below = net.connect({ port, host: HOST, noDelay: true })
  const socket = tls.connect({ socket: below, secureContext, rejectUnauthorized: false })
  socket.once('secureConnect', onConnect).on('data', chunk => onRead(chunk, chunk.length))
  socket.once('error', onError).once('end', onEnd)
  below.once('error', onError)
  return { write: batch => socket.write(batch), resetAndDestroy: () => below.resetAndDestroy() }
}

/**
 * One session of HTTP/2, of which each WebSocket is a stream (RFC 8441).
 * @param {number} port
 * @param {string} path
 * @returns {Promise<Connect>}
 */
export async function openSession(port, path) {
  const session = http2.connect(`https://${HOST}:${port}`, {
    rejectUnauthorized: false,
    maxSessionMemory: 1000,
    settings: { initialWindowSize: 2 ** 20 }
  })
  session.once('goaway', code => {
    throw new Error(`the server ended the session with code ${code}`)
  })
  const [settings] = await once(session, 'remoteSettings')
  if (!settings.enableConnectProtocol) throw new Error('the server does not announce WebSockets over HTTP/2')
  session.setLocalWindowSize(2 ** 24)
  return (_, { onConnect, onRead, onError, onEnd }) => {
    const stream = session.request(
      {
        ':method': 'CONNECT',
        ':protocol': 'websocket',
        ':scheme': 'https',
        ':path': path,
        ':authority': `${HOST}:${port}`,
        'sec-websocket-version': '13'
      },
      { endStream: false }
    )
    let isDropped = false
    stream.once('response', ({ ':status': status }) => {
      if (status !== 200) throw new Error(`the server answered with status ${status}`)
      onConnect()
    })
    stream.on('data', chunk => onRead(chunk, chunk.length)).once('error', onError)
    stream.once('end', () => {
      if (!isDropped) onEnd()
    })
    return {
      write: batch => stream.write(batch),
      // Node limits the rate of RST_STREAM of a client, so the stream is ended instead.
      resetAndDestroy: () => {
        isDropped = true
        stream.end()
      }
    }
  }
}
