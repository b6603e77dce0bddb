import { createHash, randomBytes } from 'node:crypto'
import {
  type AppendOptions,
  type HistoryPage,
  ID_LIFETIME,
  type Position,
  type ReadOptions,
  type StoredMessage
} from '../broker.js'

// The history of a channel is two keys: a hash with the position, and a stream of the messages, whose ids are the offsets.

/** Milliseconds for which a position is kept longer than its messages: 30 days. */
const POSITION_LIFETIME = 30 * 86_400_000

/** A script that runs inside Redis, in one atomic step. */
export interface Script {
  readonly text: string
  readonly sha: string
}

function script(text: string): Script {
  return { text, sha: createHash('sha1').update(text).digest('hex') }
}

/** A call of a script. */
export interface ScriptCall {
  readonly script: Script
  readonly keys: readonly string[]
  readonly args: readonly (string | number | Buffer)[]
}

/**
 * Finds the position of a history. Keys: 1 the position, 2 the messages. Arguments: 1 an epoch that was never used, 2 the
 * milliseconds for which the position is kept, 3 whether Redis is durable (1) or not (0).
 *
 * A server that restarts, or a replica that takes over, may have lost the last messages and would use their offsets again,
 * so it begins another epoch. `run` is the replication id. A master changes it when it starts and when it takes over. It also
 * changes it when its first replica connects, and when it has had no replica for `repl-backlog-ttl`, which loses nothing. The id
 * of the process would not change then, but Redis takes as long for that section of `INFO` as for the rest of an append. `birth` is the first epoch:
 * ids belong to one birth.
 */
const OPEN = `
local run = ARGV[3] == '1' and '' or string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local found = redis.call('HMGET', KEYS[1], 'offset', 'epoch', 'birth', 'run')
local offset, epoch, birth = found[1], found[2], found[3]
if not offset then
  offset, epoch, birth = '0', ARGV[1], ARGV[1]
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'offset', offset, 'epoch', epoch, 'birth', birth, 'run', run)
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
elseif found[4] ~= run then
  epoch = ARGV[1]
  redis.call('HSET', KEYS[1], 'epoch', epoch, 'run', run)
end
`

/**
 * Appends and publishes messages. Further key: 3 the id of a single message; without one, any key. Further arguments: 4 the
 * size, 5 the ttl, 6 the milliseconds for which the id is known, or 0 without one, 7 the channel, 8 the command that
 * publishes, 9 the mark of {@link frame}, then the messages. The reply has the last offset, the epoch, the number of appended
 * messages, and the error of the next one.
 *
 * A script that fails midway is not undone. The messages are added first, so no offset is ever without its message; a message
 * that was not published leaves a gap that the subscribers fill. A number of Lua counts exactly up to 2^53.
 */
const APPEND = script(`${OPEN}
if ARGV[6] ~= '0' then
  local known = redis.call('GET', KEYS[3])
  local prefix = birth .. ':'
  if known and string.sub(known, 1, #prefix) == prefix then
    return { string.sub(known, #prefix + 1), epoch, 1, '' }
  end
end
local first = tonumber(offset) + 1
local count, problem = 0, ''
for i = 10, #ARGV do
  if first + count > ${Number.MAX_SAFE_INTEGER} then
    problem = 'ERR the history has used all its offsets'
    break
  end
  local id = string.format('%.0f-0', first + count)
  local reply = redis.pcall('XADD', KEYS[2], 'MAXLEN', ARGV[4], id, 'm', ARGV[i])
  if reply.err then
    problem = reply.err
    break
  end
  count = count + 1
end
if count == 0 then return redis.error_reply(problem) end
offset = string.format('%.0f', first + count - 1)
redis.call('HSET', KEYS[1], 'offset', offset)
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
if ARGV[6] ~= '0' then redis.call('SET', KEYS[3], birth .. ':' .. offset, 'PX', ARGV[6]) end
for i = 0, count - 1 do
  local header = ARGV[9] .. string.format('%.0f', first + i) .. ' ' .. epoch .. '\\n'
  redis.call(ARGV[8], ARGV[7], header .. ARGV[10 + i])
end
return { offset, epoch, count, problem }
`)

/** Reads a range of ids. Further arguments: 4 the command, 5 and 6 the ends of the range, 7 the limit. */
const READ = script(`${OPEN}
local messages = {}
if ARGV[7] ~= '0' then messages = redis.call(ARGV[4], KEYS[2], ARGV[5], ARGV[6], 'COUNT', ARGV[7]) end
return { offset, epoch, messages }
`)

/** Settings of the calls. */
export interface HistorySettings {
  readonly sharded: boolean
  readonly durable: boolean
}

/**
 * @param key the beginning of the keys.
 * @param messages with these options. A message with an id is alone.
 */
export function appendCall(
  key: string,
  channel: string,
  messages: readonly Uint8Array[],
  { size, ttl, id }: AppendOptions,
  { sharded, durable }: HistorySettings
): ScriptCall {
  return {
    script: APPEND,
    keys: [`${key}:p`, `${key}:m`, `${key}:i:${id ?? ''}`],
    args: [
      ...openArgs(durable, ttl),
      size,
      ttl,
      id === undefined ? 0 : ID_LIFETIME,
      channel,
      sharded ? 'SPUBLISH' : 'PUBLISH',
      MARK,
      ...messages.map(toBuffer)
    ]
  }
}

export function readCall(
  key: string,
  { since, limit, reverse = false }: ReadOptions,
  { durable }: HistorySettings
): ScriptCall {
  const range = reverse
    ? ['XREVRANGE', since === undefined ? '+' : `${Math.max(since - 1, 0)}-0`, '-']
    : ['XRANGE', `${(since ?? 0) + 1}-0`, '+']
  return { script: READ, keys: [`${key}:p`, `${key}:m`], args: [...openArgs(durable, 0), ...range, limit] }
}

/** The key of the messages. */
export function messagesKey(key: string): string {
  return `${key}:m`
}

function openArgs(durable: boolean, ttl: number): (string | number)[] {
  return [newEpoch(), POSITION_LIFETIME + ttl, durable ? 1 : 0]
}

/** Random once for the process: random bytes for each call would take a seventh of its time. */
const EPOCH_PREFIX = randomBytes(8).toString('hex')
let epochs = 0

/** @returns an epoch that no other call has. Few of them are used. */
function newEpoch(): string {
  return `${EPOCH_PREFIX}-${(epochs++).toString(36)}`
}

export function toBuffer(message: Uint8Array): Buffer {
  return Buffer.from(message.buffer, message.byteOffset, message.byteLength)
}

// ---- replies

function positionOf(reply: unknown): Position {
  const [offset, epoch] = listOf(reply)
  return { offset: Number(String(offset)), epoch: String(epoch) }
}

/** @returns the positions of the appended messages, and the error of the next one if not all are. */
export function appendedOf(reply: unknown): {
  readonly positions: readonly Position[]
  readonly problem: string
} {
  const { offset, epoch } = positionOf(reply)
  const [count, problem] = listOf(reply).slice(2)
  const positions = Array.from({ length: Number(count) }, (_, i) => ({
    offset: offset - Number(count) + 1 + i,
    epoch
  }))
  return { positions, problem: String(problem) }
}

export function pageOf(reply: unknown): HistoryPage {
  return { position: positionOf(reply), messages: listOf(listOf(reply)[2]).map(messageOf) }
}

/** An entry of a stream: its id, and a list of names and values. */
function messageOf(entry: unknown): StoredMessage {
  const [id, fields] = listOf(entry)
  const message = listOf(fields)[1]
  if (!Buffer.isBuffer(message)) throw new TypeError(UNKNOWN_REPLY)
  return { offset: Number.parseInt(String(id), 10), message }
}

function listOf(reply: unknown): readonly unknown[] {
  if (!Array.isArray(reply)) throw new TypeError(UNKNOWN_REPLY)
  return reply
}

const UNKNOWN_REPLY = 'Redis sent a reply that is not one of the history scripts'

// ---- messages with a position, in the channel

/** Begins a message that has a position: the mark, `offset epoch\n`, and the message. */
const MARK = Buffer.from('\0@h')

const NEWLINE = 10

/** Nothing but a message with a position begins with the mark: another one that does has the mark and `\n` in front. */
export function frame(message: Uint8Array): Buffer {
  const bytes = toBuffer(message)
  return isMarked(bytes) ? Buffer.concat([MARK, Buffer.of(NEWLINE), bytes]) : bytes
}

/** The reverse of {@link frame}, and of what the script publishes. */
export function unframe(bytes: Buffer): { readonly message: Buffer; readonly position?: Position } {
  if (!isMarked(bytes)) return { message: bytes }
  const end = bytes.indexOf(NEWLINE)
  const header = bytes.toString('latin1', MARK.length, end)
  const message = bytes.subarray(end + 1)
  if (header === '') return { message }
  const [offset, epoch] = header.split(' ')
  return { message, position: { offset: Number(offset), epoch: String(epoch) } }
}

function isMarked(bytes: Buffer): boolean {
  return bytes.length > MARK.length && bytes.compare(MARK, 0, MARK.length, 0, MARK.length) === 0
}
