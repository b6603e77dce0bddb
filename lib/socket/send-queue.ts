import { fstatSync } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'

/** The fields of Node's internal TCP handle that this module reads. There is no public API for them. */
interface Handle {
  readonly fd: number
  /** Bytes that the handle was given, TLS records and the head of the handshake included. */
  readonly bytesWritten: number
  /** Bytes of them that the operating system has not taken. */
  readonly writeQueueSize: number
}

/** The handle of a socket; for TLS, that of the socket below. */
function handleOf(stream: Duplex): Handle | undefined {
  const own: unknown = Reflect.get(stream, '_handle')
  const handle: unknown = Reflect.get(Object(own), '_parent') ?? own
  return isHandle(handle) ? handle : undefined
}

function isHandle(value: unknown): value is Handle {
  const { fd, bytesWritten, writeQueueSize }: Partial<Record<keyof Handle, unknown>> = Object(value)
  return typeof fd === 'number' && typeof bytesWritten === 'number' && typeof writeQueueSize === 'number'
}

/** The number of written bytes that the operating system has taken; undefined for other streams. */
export function takenBytes(stream: Duplex): number | undefined {
  const handle = handleOf(stream)
  return handle && handle.bytesWritten - handle.writeQueueSize
}

/** Bytes that a socket was given and that the operating system has not taken; 0 for other streams. */
export function queuedBytes(stream: Duplex): number {
  return handleOf(stream)?.writeQueueSize ?? 0
}

/** Limits of the number of bytes that the peer's system has acknowledged, or for a proxy, that the proxy's has. */
export interface Acknowledged {
  readonly atLeast: number
  readonly atMost: number
}

/** Where Linux lists the TCP connections of the process's network namespace. */
const TABLES = ['/proc/self/net/tcp', '/proc/self/net/tcp6']

/**
 * The fields of a line that count, from 1 on, with `:` between fields as well as spaces: the size of the send queue,
 * hexadecimal, and the inode of the socket.
 */
const QUEUE = 7
const INODE = 14

const NEW_LINE = 0x0a
const SPACE = 0x20
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
/** The offset from the character code of a hexadecimal digit from `A` on to its value. */
const BEFORE_A = 0x37

/** The pause after a look at the tables, as a multiple of its duration: looks take at most 5 % of the time. */
const REST = 19
/** The longest pause, in milliseconds. */
const MAX_REST = 1000

/** A look at the tables, which serves every socket that is added before it begins. */
interface Look {
  readonly sockets: Socket[]
  readonly seen: Promise<ReadonlyMap<Socket, Acknowledged>>
}

/**
 * The send queues that the kernel keeps for TCP sockets. Linux lists all connections in tables. They are read once for
 * all sockets that are asked about at a time. Where there are no such tables, or they may not be read, nothing is known.
 */
export class SendQueues {
  readonly #tables: readonly string[]
  #next: Look | undefined
  /** Resolves when the next look may begin. */
  #rested: Promise<void> = Promise.resolve()

  constructor(tables: readonly string[] = TABLES) {
    this.#tables = tables
  }

  /** Resolves to undefined where the queue is not shown. */
  async acknowledged(socket: Socket): Promise<Acknowledged | undefined> {
    this.#next ??= this.#look()
    this.#next.sockets.push(socket)
    return (await this.#next.seen).get(socket)
  }

  #look(): Look {
    const sockets: Socket[] = []
    let began = 0
    const seen = this.#rested.then(() => {
      this.#next = undefined
      began = performance.now()
      return this.#read(sockets)
    })
    const rest = (): number => Math.min(REST * (performance.now() - began), MAX_REST)
    this.#rested = seen.then(() => sleep(rest(), undefined, { ref: false }))
    return { sockets, seen }
  }

  async #read(sockets: readonly Socket[]): Promise<ReadonlyMap<Socket, Acknowledged>> {
    const asked = sockets.map(socket => ({ socket, least: takenBytes(socket), inode: inodeOf(socket) }))
    const queues = new Map<number, number | undefined>(asked.map(({ inode }) => [inode, undefined]))
    // A system without a table, or without permission to read it, shows nothing.
    for (const path of this.#tables) await findQueues(path, queues).catch(() => {})
    const seen = new Map<Socket, Acknowledged>()
    for (const { socket, least, inode } of asked) {
      // Bytes that are written while the tables are read may or may not be in the queue: hence two limits.
      const most = takenBytes(socket)
      const queue = queues.get(inode)
      if (least === undefined || most === undefined || queue === undefined) continue
      seen.set(socket, { atLeast: least - queue, atMost: most - queue })
    }
    return seen
  }
}

/** The number of a socket in the tables; -1 for a socket without a descriptor. 0 means closed connections. */
function inodeOf(socket: Socket): number {
  try {
    return fstatSync(handleOf(socket)?.fd ?? -1).ino
  } catch {
    return -1
  }
}

/** Fills in the size of the send queue for each inode that the table at `path` names. */
async function findQueues(path: string, queues: Map<number, number | undefined>): Promise<void> {
  const table = await open(path)
  try {
    await scan(table, queues)
  } finally {
    await table.close()
  }
}

/** A table of 20,000 connections has 3 MB, so it is scanned in chunks; the kernel returns 4 KiB at a time. */
async function scan(table: FileHandle, queues: Map<number, number | undefined>): Promise<void> {
  const buffer = Buffer.allocUnsafe(4096)
  let field = 0
  let isBetween = true
  let queue = 0
  // The first line is the head of the table.
  let inode = Number.NaN
  for (;;) {
    const { bytesRead } = await table.read(buffer, 0, buffer.length)
    if (bytesRead === 0) return
    for (let i = 0; i < bytesRead; i++) {
      const byte = buffer[i]
      if (byte === SPACE || byte === COLON) isBetween = true
      else if (byte === NEW_LINE) {
        if (queues.has(inode)) queues.set(inode, queue)
        field = queue = inode = 0
        isBetween = true
      } else {
        if (isBetween) field++
        isBetween = false
        if (field === QUEUE) queue = queue * 16 + byte - (byte > NINE ? BEFORE_A : ZERO)
        else if (field === INODE) inode = inode * 10 + byte - ZERO
      }
    }
  }
}

/** The send queues of this process. */
const sendQueues = new SendQueues()

/**
 * The number of written bytes of a stream that are acknowledged; undefined for streams that are not TCP or TLS sockets,
 * and a promise of undefined where the system does not show it.
 */
export function acknowledgedBytes(stream: Duplex): Promise<Acknowledged | undefined> | undefined {
  const isTcp = stream instanceof Socket && stream.remotePort !== undefined
  return isTcp ? sendQueues.acknowledged(stream) : undefined
}
