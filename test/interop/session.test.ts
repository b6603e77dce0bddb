import cookie from '@fastify/cookie'
import session from '@fastify/session'
import type { Session } from 'fastify'
import t, { type Test } from 'tap'
import { headerOf, listen, makeApp, open, shake } from '../helpers/app.js'

declare module 'fastify' {
  interface Session {
    visits?: number
    said?: string
  }
}

/** A store that exposes its sessions. */
class Store {
  readonly sessions = new Map<string, string>()

  set(id: string, session: Session, done: (error?: unknown) => void): void {
    this.sessions.set(id, JSON.stringify(session))
    done()
  }

  get(id: string, done: (error: unknown, session?: Session | null) => void): void {
    const stored = this.sessions.get(id)
    done(null, stored === undefined ? null : JSON.parse(stored))
  }

  destroy(id: string, done: (error?: unknown) => void): void {
    this.sessions.delete(id)
    done()
  }

  only(): Record<string, unknown> {
    const [stored = 'null'] = this.sessions.values()
    return JSON.parse(stored)
  }
}

async function start(t: Test) {
  const { app } = await makeApp(t)
  const store = new Store()
  await app.register(cookie)
  await app.register(session, {
    secret: 'a secret of at least thirty-two characters',
    cookie: { secure: false },
    store
  })
  app.addHook('preHandler', async ({ session }) => {
    session.visits = (session.visits ?? 0) + 1
  })
  app.get('/page', async ({ session }) => ({ visits: session.visits, said: session.said ?? null }))
  app.get('/', { websocket: true }, (socket, { session }) => {
    socket.send(`visit ${session.visits}`)
    socket.on('message', async data => {
      session.said = String(data)
      await session.save()
      socket.send('saved')
    })
  })
  return { store, port: await listen(app) }
}

t.test('@fastify/session: a session begins with a handshake and continues with requests', async t => {
  const { store, port } = await start(t)
  const first = await shake(t, port, '/')
  t.equal(first.status, 101)
  const [id = ''] = headerOf(first, 'set-cookie')?.split(';') ?? []
  t.match(id, /^sessionId=/)
  t.equal(store.only().visits, 1, 'it was stored before the 101')
  const headers = { cookie: id }
  const client = await open(t, port, '/', { headers })
  t.equal(await client.next(), 'visit 2')
  client.socket.send('hello')
  t.equal(await client.next(), 'saved')
  const page = await fetch(`http://127.0.0.1:${port}/page`, { headers })
  t.strictSame(await page.json(), { visits: 3, said: 'hello' }, 'the value that a listener saved')
  t.equal(store.sessions.size, 1)
})

t.test('@fastify/session: an unsigned cookie begins another session', async t => {
  const { store, port } = await start(t)
  const client = await open(t, port, '/', { headers: { cookie: 'sessionId=forged.signature' } })
  t.equal(await client.next(), 'visit 1')
  t.match(client.headers['set-cookie'], [/^sessionId=/])
  t.notOk(store.sessions.has('forged'))
})
