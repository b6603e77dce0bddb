import 'reflect-metadata'
import { once } from 'node:events'
import type { Duplex } from 'node:stream'
import { type INestApplicationContext, Module } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify'
import { WsAdapter } from '@nestjs/platform-ws'
import { WebSocketServer as InjectServer, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets'
import { from } from 'rxjs'
import t, { type Test } from 'tap'
import { WebSocket as WsClient } from 'ws'
import { WebSocket, WebSocketServer } from '../../lib/ws/index.js'
import { open, Signal, withDeadline } from '../helpers/app.js'

// NestJS on the WebSocketServer of this package. Its adapter imports the constructor from `ws` itself, so `create` is overridden.

type Options = NonNullable<Parameters<WsAdapter['create']>[1]>

/** The code of an application: the adapter of NestJS with another server. */
class Adapter extends WsAdapter {
  override create(port: number, options: Options = {}): unknown {
    if (port !== 0 || this.httpServer === undefined) return super.create(port, options)
    const { path = '', ...rest } = options
    this.ensureHttpServerExists(port, this.httpServer)
    const server: WebSocketServer = this.bindErrorHandler(this.make(rest))
    this.addWsServerToRegistry(server, port, path)
    return server
  }

  make(options: object): WebSocketServer {
    return new WebSocketServer({ noServer: true, ...options })
  }
}

interface Gateway {
  readonly server: WebSocketServer
  readonly sockets: unknown[]
  readonly gone: Signal
}

/** A gateway, with its decorators applied by hand. */
function gatewayClass() {
  class ChatGateway implements Gateway {
    declare server: WebSocketServer
    readonly sockets: unknown[] = []
    readonly gone = new Signal()

    handleConnection(socket: unknown): void {
      this.sockets.push(socket)
    }

    handleDisconnect(): void {
      this.gone.fire()
    }

    onWord(socket: WebSocket, word: string): object {
      return { event: 'word', data: `nest: ${word} ${socket.readyState}` }
    }

    onCount(): unknown {
      return from([1, 2, 3].map(data => ({ event: 'count', data })))
    }

    onAll(_socket: WebSocket, word: string): void {
      for (const client of this.server.clients) client.send(JSON.stringify({ event: 'all', data: word }))
    }

    onFail(): never {
      throw new Error('the gateway fails')
    }
  }
  const { prototype } = ChatGateway
  for (const [method, event] of Object.entries({
    onWord: 'word',
    onCount: 'count',
    onAll: 'all',
    onFail: 'fail'
  })) {
    const descriptor = Object.getOwnPropertyDescriptor(prototype, method)
    if (descriptor === undefined) throw new Error(method)
    SubscribeMessage(event)(prototype, method, descriptor)
  }
  InjectServer()(prototype, 'server')
  WebSocketGateway({ path: '/nest', maxPayload: 1000 })(ChatGateway)
  return ChatGateway
}

async function start(t: Test, makeAdapter = (app: INestApplicationContext): WsAdapter => new Adapter(app)) {
  const ChatGateway = gatewayClass()
  class AppModule {}
  Module({ providers: [ChatGateway] })(AppModule)
  const app = await NestFactory.create<NestFastifyApplication>(AppModule, new FastifyAdapter(), {
    logger: false
  })
  app.useWebSocketAdapter(makeAdapter(app))
  await app.listen(0, '127.0.0.1')
  t.teardown(() => app.close())
  const address: unknown = app.getHttpServer().address()
  const gateway: Gateway = app.get(ChatGateway)
  return { app, gateway, port: Number(Reflect.get(Object(address), 'port')) }
}

const message = (event: string, data?: unknown): string => JSON.stringify({ event, data })

t.test('messages in both directions, the hooks of a gateway, and a broadcast over clients work', async t => {
  const { gateway, port } = await start(t)
  t.ok(gateway.server instanceof WebSocketServer)
  const [client, other] = [await open(t, port, '/nest'), await open(t, port, '/nest')]
  t.equal(gateway.sockets.length, 2)
  for (const socket of gateway.sockets) t.ok(socket instanceof WebSocket)
  client.socket.send(message('word', 'one'))
  t.equal(await client.next(), message('word', 'nest: one 1'))
  client.socket.send(message('count'))
  for (const data of [1, 2, 3]) t.equal(await client.next(), message('count', data))
  other.socket.send(message('all', 'hear'))
  for (const each of [client, other]) t.equal(await each.next(), message('all', 'hear'))
  client.socket.close(1000)
  t.equal(await client.closed(), '1000')
  await gateway.gone.wait('handleDisconnect')
  t.equal(gateway.server.clients.size, 1)
})

t.test('an invalid message, an unknown event and a handler that throws affect no other client', async t => {
  const { port } = await start(t)
  const client = await open(t, port, '/nest')
  for (const data of ['no json', message('bob'), message('fail')]) client.socket.send(data)
  client.socket.send(message('word', 'after'))
  t.equal(await client.next(), message('word', 'nest: after 1'))
})

t.test('options of the gateway are passed to the server', async t => {
  const { port } = await start(t)
  const client = await open(t, port, '/nest')
  client.socket.send(message('word', 'x'.repeat(1000)))
  t.match(await client.closed(), /^1009/)
})

t.test('closing the application ends the connections', async t => {
  const { app, port } = await start(t)
  const client = await open(t, port, '/nest')
  await withDeadline(app.close(), 10_000, 'app.close()')
  t.equal(await client.closed(), '1006', 'the same as with ws, whose adapter terminates')
})

t.test('the test detects a server that never opens a connection', async t => {
  class Deaf extends WebSocketServer {
    override handleUpgrade(_request: unknown, socket: Duplex): void {
      socket.destroy()
    }
  }
  class DeafAdapter extends Adapter {
    override make(): WebSocketServer {
      return new Deaf({ noServer: true })
    }
  }
  const { port } = await start(t, app => new DeafAdapter(app))
  const socket = new WsClient(`ws://127.0.0.1:${port}/nest`)
  const [error] = await once(socket, 'error')
  t.match(String(error), /socket hang up/)
})
