// A certificate for `localhost`, signed by its own key and made on the fly, so that nothing secret lies in the repository.
// Browsers warn about it. For the Internet, get one from a certificate authority.
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'

const DAYS = 30
const DAY = 86_400_000

// DER, the encoding of ASN.1 in X.509 (RFC 5280): a tag, a length, the contents.
function der(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(contents)
  const { length } = body
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255]
  return Buffer.concat([Buffer.from([tag, ...size]), body])
}

const sequence = (...items: readonly Uint8Array[]) => der(0x30, ...items)
const set = (item: Uint8Array) => der(0x31, item)
const text = (value: string) => der(0x0c, Buffer.from(value))
const time = (date: Date) => der(0x17, Buffer.from(`${date.toISOString().replace(/\D/g, '').slice(2, 14)}Z`))
const bits = (value: Uint8Array) => der(0x03, Buffer.from([0]), value)
const octets = (value: Uint8Array) => der(0x04, value)
const identifier = (hex: string) => der(0x06, Buffer.from(hex, 'hex'))

const ECDSA_WITH_SHA256 = sequence(identifier('2a8648ce3d040302'))
const COMMON_NAME = identifier('550403')
const SUBJECT_ALTERNATIVE_NAME = identifier('551d11')

/** A key and a certificate in PEM, valid for `localhost`, 127.0.0.1 and ::1. */
export function makeCertificate(): { key: string; cert: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const name = sequence(set(sequence(COMMON_NAME, text('localhost'))))
  const now = Date.now()
  const alternatives = sequence(
    der(0x82, Buffer.from('localhost')),
    der(0x87, Buffer.from([127, 0, 0, 1])),
    der(0x87, Buffer.from('00000000000000000000000000000001', 'hex'))
  )
  const serial = randomBytes(16)
  serial[0] &= 0x7f // positive
  serial[0] |= 0x01 // and without leading zeros
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))), // version 3
    der(0x02, serial),
    ECDSA_WITH_SHA256,
    name,
    sequence(time(new Date(now - DAY)), time(new Date(now + DAYS * DAY))),
    name,
    publicKey.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(sequence(SUBJECT_ALTERNATIVE_NAME, octets(alternatives))))
  )
  const certificate = sequence(body, ECDSA_WITH_SHA256, bits(sign('sha256', body, privateKey)))
  const lines = certificate.toString('base64').replace(/.{64}/g, '$&\n')
  return {
    key: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`
  }
}
