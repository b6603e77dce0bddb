// The chat of examples/chat over HTTPS and HTTP/2: a browser loads the page and opens the WebSocket on one TCP connection.
// Run it with `npm run start:http2`. Browsers warn about the certificate, which is made at each start.
import { buildChat } from '../chat/server.js'
import { makeCertificate } from './certificate.js'

const { PORT = '8003', HOST = 'localhost' } = process.env

// With `allowHTTP1`, clients without HTTP/2 can connect too.
const options = {
  logger: { level: 'warn' },
  http2: true,
  https: { ...makeCertificate(), allowHTTP1: true }
}
const app = await buildChat(options)
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => app.close())
const { port } = new URL(await app.listen({ port: Number(PORT), host: HOST }))
console.log(`Chat on https://${HOST}:${port} (Ctrl-C stops it)`)
