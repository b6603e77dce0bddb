import t from 'tap'
import { type ExtensionOffer, parseExtensions } from '../../lib/protocol/extension.js'
import {
  acceptDeflate,
  checkDeflateAnswer,
  type DeflateOptions,
  offerDeflate,
  PERMESSAGE_DEFLATE
} from '../../lib/protocol/permessage-deflate.js'

/**
 * Options or parameters, written as the windows of server and client, `15 9`, after an `s` when the server and a `c`
 * when the client compresses without context takeover: `sc 15 9`.
 */
function settings(text: string): DeflateOptions {
  const [server, client] = text.split(' ').slice(-2).map(Number)
  return {
    serverNoContextTakeover: text.includes('s'),
    clientNoContextTakeover: text.includes('c'),
    serverMaxWindowBits: server,
    clientMaxWindowBits: client
  }
}

/** One row per line, with bars between cells; `pmd` is short for the name of the extension. */
function table(text: string): string[][] {
  const lines = text.trim().replaceAll('pmd', 'permessage-deflate').split('\n')
  return lines.map(line => line.split('|').map(cell => cell.trim()))
}

function parse(text: string): ExtensionOffer[] {
  const elements = parseExtensions(text)
  if (elements === undefined) throw new Error(`${text} does not match the grammar`)
  return elements
}

const accept = (offers: string, wanted = '15 15') => acceptDeflate(parse(offers), settings(wanted))
const check = (answer: string, offered = '15 15') => checkDeflateAnswer(parse(answer), settings(offered))

t.test('RFC 7692 section 7.1.3: the examples are negotiated', t => {
  t.equal(PERMESSAGE_DEFLATE, 'permessage-deflate')
  const simplest = { parameters: settings('15 15'), response: 'permessage-deflate' }
  t.strictSame(accept('permessage-deflate'), simplest)
  const narrow = 'permessage-deflate; client_max_window_bits; server_max_window_bits=10'
  const narrowed = {
    parameters: settings('10 15'),
    response: 'permessage-deflate; server_max_window_bits=10'
  }
  t.strictSame(accept(narrow), narrowed)
  t.strictSame(
    accept(`${narrow}, permessage-deflate; client_max_window_bits`),
    narrowed,
    'the first offer is kept'
  )
  t.strictSame(check('permessage-deflate'), { parameters: settings('15 15') })
  t.strictSame(check('permessage-deflate; server_max_window_bits=10', '10 15'), {
    parameters: settings('10 15')
  })
  t.end()
})

t.test('RFC 7692 section 7.1: all four parameters are accepted together, in any order', t => {
  const offer =
    'permessage-deflate; client_max_window_bits=11; server_no_context_takeover; server_max_window_bits=13; ' +
    'client_no_context_takeover'
  t.strictSame(accept(offer), {
    parameters: settings('sc 13 11'),
    response:
      'permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=13; ' +
      'client_max_window_bits=11'
  })
  t.strictSame(check(offer, 'sc 14 12'), { parameters: settings('sc 13 11') })
  t.end()
})

/** Section, options of the server, offers, agreed parameters, response; `no` declines. */
const OFFERED = table(`
  5.1     | 15 15   |                                                | no
  5.1     | 15 15   | x-webkit-deflate-frame                         | no
  5.1     | 15 15   | Permessage-Deflate                             | no
  5.2     | 15 15   | permessage-foo                                 | no
  5.2     | 15 15   | permessage-foo; x=10                           | no
  5.2     | 15 15   | permessage-foo; x="10"                         | no
  5.2     | 15 15   | permessage-foo, permessage-bar                 | no
  5.2     | 15 15   | permessage-foo; use_y, permessage-foo          | no
  5.1     | 15 15   | permessage-foo, permessage-bar; x=10, pmd      | 15 15   | pmd
  5.1     | 15 15   | pmd, permessage-foo                            | 15 15   | pmd
  5.1     | 15 15   | pmd; server_max_window_bits=15, pmd; server_max_window_bits=9 | 15 15 | pmd; server_max_window_bits=15
  5.1     | 15 15   | pmd; client_no_context_takeover, pmd; server_no_context_takeover | c 15 15 | pmd; client_no_context_takeover
  7.1     | 15 15   | pmd; a, pmd; server_max_window_bits=16, pmd; server_max_window_bits=11 | 11 15 | pmd; server_max_window_bits=11
  7.1.1.1 | 15 15   | pmd; server_no_context_takeover                | s 15 15 | pmd; server_no_context_takeover
  7.1.1.1 | s 15 15 | pmd                                            | s 15 15 | pmd; server_no_context_takeover
  7.1.1.2 | 15 15   | pmd; client_no_context_takeover                | c 15 15 | pmd; client_no_context_takeover
  7.1.1.2 | c 15 15 | pmd                                            | c 15 15 | pmd; client_no_context_takeover
  7.1.2.1 | 15 15   | pmd; server_max_window_bits=9                  | 9 15    | pmd; server_max_window_bits=9
  7.1.2.1 | 12 15   | pmd; server_max_window_bits="10"               | 10 15   | pmd; server_max_window_bits=10
  7.1.2.1 | 12 15   | pmd; server_max_window_bits=14                 | 12 15   | pmd; server_max_window_bits=12
  7.1.2.1 | 15 15   | pmd; server_max_window_bits=15                 | 15 15   | pmd; server_max_window_bits=15
  7.1.2.1 | 11 15   | pmd                                            | 11 15   | pmd; server_max_window_bits=11
  7.1.2.1 | 15 15   | pmd; server_max_window_bits=8                  | no
  7.1.2.1 | 9 9     | pmd; server_max_window_bits=8                  | no
  7.1.2.1 | 15 15   | pmd; server_max_window_bits=8, pmd; client_max_window_bits | 15 15 | pmd
  7.1.2.2 | 15 15   | pmd; client_max_window_bits                    | 15 15   | pmd
  7.1.2.2 | 15 10   | pmd; client_max_window_bits                    | 15 10   | pmd; client_max_window_bits=10
  7.1.2.2 | 15 15   | pmd; client_max_window_bits=15                 | 15 15   | pmd; client_max_window_bits=15
  7.1.2.2 | 15 15   | pmd; client_max_window_bits=12                 | 15 12   | pmd; client_max_window_bits=12
  7.1.2.2 | 15 9    | pmd; client_max_window_bits=12                 | 15 9    | pmd; client_max_window_bits=9
  7.1.2.2 | 15 9    | pmd; client_max_window_bits=8                  | 15 8    | pmd; client_max_window_bits=8
  7.1.2.2 | 15 9    | pmd                                            | 15 15   | pmd
`)

for (const [section, wanted, offers, agreed, response] of OFFERED) {
  t.test(
    `RFC 7692 section ${section}: a server with options ${wanted} negotiates the offer "${offers}"`,
    t => {
      const expected = agreed === 'no' ? undefined : { parameters: settings(agreed), response }
      t.strictSame(accept(offers, wanted), expected)
      t.end()
    }
  )
}

t.test('RFC 7692 section 5.1: a long list of invalid offers is declined in one pass', t => {
  const bad = 'permessage-deflate; a,'.repeat(10_000)
  t.equal(accept(bad), undefined)
  t.equal(accept(`${bad}permessage-deflate`)?.response, 'permessage-deflate')
  t.equal(accept(`permessage-deflate${'; a'.repeat(10_000)}`), undefined)
  t.end()
})

/** Valid neither in an offer nor in an answer. */
const BAD_PARAMETERS = table(`
  a | a=10 | server_no_context_takeover; a | Server_No_Context_Takeover | __proto__ | constructor | toString=9
  server_no_context_takeover=1 | server_no_context_takeover=true | client_no_context_takeover="10"
  server_no_context_takeover; server_no_context_takeover
  client_no_context_takeover; server_no_context_takeover; client_no_context_takeover
  server_max_window_bits=10; server_max_window_bits=10 | server_max_window_bits=10; server_max_window_bits=11
  client_max_window_bits=10; client_max_window_bits=11 | client_max_window_bits=10; client_max_window_bits
  client_max_window_bits; client_max_window_bits       | server_max_window_bits
`).flat()
const NO_WINDOWS = '0 1 7 16 19 20 80 150 08 09 010 +9 -9 9.0 1e1 0xa a 15a'.split(' ')

for (const parameters of [
  ...BAD_PARAMETERS,
  ...NO_WINDOWS.map(value => `server_max_window_bits=${value}`),
  ...NO_WINDOWS.map(value => `client_max_window_bits=${value}`)
]) {
  t.test(
    `RFC 7692 section 7.1: "${parameters}" declines its offer, and fails the connection in an answer`,
    t => {
      const bad = `permessage-deflate; ${parameters}`
      const good = 'permessage-deflate; server_max_window_bits=9'
      t.equal(accept(bad), undefined)
      t.equal(accept(`${bad}, permessage-foo, ${bad}`), undefined)
      t.strictSame(accept(`${bad}, ${good}`), { parameters: settings('9 15'), response: good })
      t.strictSame(accept(`${good}, ${bad}`), { parameters: settings('9 15'), response: good })
      const failure = 'The server answered permessage-deflate with parameters that are not valid.'
      t.strictSame(check(bad), { failure })
      t.end()
    }
  )
}

for (const [wanted, offer] of table(`
  15 15   | pmd; client_max_window_bits
  10 15   | pmd; server_max_window_bits=10; client_max_window_bits
  15 14   | pmd; client_max_window_bits=14
  s 15 15 | pmd; server_no_context_takeover; client_max_window_bits
  c 15 15 | pmd; client_no_context_takeover; client_max_window_bits
  sc 14 9 | pmd; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=14; client_max_window_bits=9
`)) {
  t.test(`RFC 7692 section 7.1: a client with options ${wanted} offers ${offer}`, t => {
    t.equal(offerDeflate(settings(wanted)), offer)
    t.end()
  })
}

/** Section, offered options, answer, then the agreed parameters or the reason why the connection fails. */
const ANSWERED = table(`
  7.1.1.1 | 15 15   | pmd; server_no_context_takeover  | s 15 15
  7.1.1.1 | s 15 15 | pmd; server_no_context_takeover  | s 15 15
  7.1.1.2 | 15 15   | pmd; client_no_context_takeover  | c 15 15
  7.1.1.2 | c 15 15 | pmd; client_no_context_takeover  | c 15 15
  7.1.1.2 | c 15 15 | pmd                              | c 15 15
  7.1.2.1 | 15 15   | pmd; server_max_window_bits=12   | 12 15
  7.1.2.1 | 15 15   | pmd; server_max_window_bits=15   | 15 15
  7.1.2.1 | 15 15   | pmd; server_max_window_bits=8    | 8 15
  7.1.2.1 | 12 15   | pmd; server_max_window_bits=12   | 12 15
  7.1.2.1 | 12 15   | pmd; server_max_window_bits="9"  | 9 15
  7.1.2.2 | 15 15   | pmd; client_max_window_bits=15   | 15 15
  7.1.2.2 | 15 15   | pmd; client_max_window_bits=9    | 15 9
  7.1.2.2 | 15 12   | pmd; client_max_window_bits=12   | 15 12
  7.1.2.2 | 15 12   | pmd; client_max_window_bits=10   | 15 10
  7.1.2.2 | 15 12   | pmd                              | 15 12
  5.1     | 15 15   | permessage-foo      | The server chose an extension that was not offered.
  5.1     | 15 15   | PERMESSAGE-DEFLATE  | The server chose an extension that was not offered.
  5.1     | 15 15   | pmd, permessage-foo | The server chose an extension that was not offered.
  5.1     | 15 15   | permessage-foo, pmd | The server chose an extension that was not offered.
  5.1     | 15 15   | pmd, pmd            | The server did not answer pmd exactly once.
  5.1     | 15 15   |                     | The server did not answer pmd exactly once.
  7.1.1.1 | s 15 15 | pmd                 | The server did not accept server_no_context_takeover.
  7.1.1.1 | s 15 15 | pmd; client_no_context_takeover | The server did not accept server_no_context_takeover.
  7.1.2.1 | 10 15   | pmd                             | The server chose a larger window than was offered.
  7.1.2.1 | 10 15   | pmd; server_max_window_bits=11  | The server chose a larger window than was offered.
  7.1.2.1 | 14 15   | pmd; server_max_window_bits=15  | The server chose a larger window than was offered.
  7.1.2.2 | 15 10   | pmd; client_max_window_bits=11  | The server chose a larger window than was offered.
  7.1.2.2 | 15 14   | pmd; client_max_window_bits=15  | The server chose a larger window than was offered.
  7.1.2.2 | 15 15   | pmd; client_max_window_bits     | The server answered pmd with parameters that are not valid.
  7.1.2.2 | 15 15   | pmd; client_max_window_bits=8   | The server chose a window that the client cannot compress with.
  7.1.2.2 | 15 9    | pmd; client_max_window_bits=8   | The server chose a window that the client cannot compress with.
`)

for (const [section, offered, answer, outcome] of ANSWERED) {
  t.test(`RFC 7692 section ${section}: a client that offered ${offered} checks the answer "${answer}"`, t => {
    const fails = outcome.startsWith('The server ')
    t.strictSame(check(answer, offered), fails ? { failure: outcome } : { parameters: settings(outcome) })
    t.end()
  })
}

/**
 * The agreed flags of a pair of sides: the first row has the flags of one side, the first column those of the other
 * side.
 */
const AGREED_FLAGS = table(`
     | s  | c  | sc
  s  | s  | sc | sc
  c  | sc | c  | sc
  sc | sc | sc | sc
`)

/** The same for a window. */
const AGREED_WINDOWS = table(`
  15 | 12 | 10 | 9
  12 | 12 | 10 | 9
  10 | 10 | 10 | 9
  9  | 9  | 9  | 9
`)

const PLACES = [0, 1, 2, 3]
const ALL = PLACES.flatMap(flags => PLACES.flatMap(server => PLACES.map(client => [flags, server, client])))

t.test(
  'RFC 7692 section 7.1: a client and a server always agree on the same parameters, whatever their options are',
  t => {
    /** The agreed parameters; a side without a setting, listed first, takes that of the other side. */
    const both = ([f1, s1, c1]: number[], [f2, s2, c2]: number[]): string =>
      `${AGREED_FLAGS[f1][f2]} ${AGREED_WINDOWS[s1][s2]} ${AGREED_WINDOWS[c1][c2]}`
    const wrong: string[] = []
    for (const client of ALL) {
      const offered = both(client, [0, 0, 0])
      const offer = offerDeflate(settings(offered))
      for (const server of ALL) {
        const accepted = accept(offer, both([0, 0, 0], server))
        const checked = check(accepted?.response ?? '', offered)
        const agreed = JSON.stringify(settings(both(client, server)))
        if (JSON.stringify(accepted?.parameters) !== agreed) wrong.push(`server: ${client} ${server}`)
        if (JSON.stringify(checked) !== `{"parameters":${agreed}}`) wrong.push(`client: ${client} ${server}`)
      }
    }
    t.equal(ALL.length, 64)
    t.strictSame(wrong, [])
    t.end()
  }
)
