import fc from 'fast-check'
import t from 'tap'
import { parse } from 'yaml'
import { toYaml } from '../../lib/asyncapi/yaml.js'

t.test('an object as YAML', async t => {
  t.equal(
    toYaml({
      title: 'Some text',
      version: '1.0.0',
      list: [[1, [2]], { a: 1, b: [] }, 'a\n\nb'],
      empty: {},
      'odd key': undefined,
      nothing: null,
      no: 'no'
    }),
    `title: Some text
version: "1.0.0"
list:
  - - 1
    - - 2
  - a: 1
    b: []
  - |-
    a

    b
empty: {}
nothing: null
"no": "no"
`
  )
  t.equal(toYaml([]), '[]\n')
  t.equal(toYaml(['\u0085\ufeff', 'a\n\u2028']), '- "\\u0085\\ufeff"\n- "a\\n\\u2028"\n')
})

const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string(),
  fc.stringMatching(/^[a-z \n#:-]{0,12}$/),
  fc.constantFrom(
    'yes',
    '1e3',
    'E0',
    'e-1',
    '0x1',
    '~',
    '.5',
    '1:20',
    'a: b',
    'a #b',
    '- a',
    '-',
    'a\n b',
    ' a\nb'
  ),
  fc.constantFrom(
    'a \nb',
    'a\nb\n',
    '2020-01-01',
    '=',
    '<<',
    '.inf',
    '#a',
    'a\n---\nb',
    'a\n\tb',
    '!x',
    '$ref'
  )
)
const json = fc.letrec(tie => ({
  value: fc.oneof(
    { depthSize: 'small' },
    text,
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.constantFrom(true, false, null),
    fc.array(tie('value')),
    fc.dictionary(
      text.filter(key => key !== '__proto__'),
      tie('value')
    )
  )
})).value

t.test('a parser of YAML 1.1 or 1.2 reads every value of JSON back', async t => {
  fc.assert(
    fc.property(fc.array(json), value => {
      const expected = JSON.stringify(value)
      const yaml = toYaml(value)
      for (const version of ['1.1', '1.2'] as const)
        if (JSON.stringify(parse(yaml, { version })) !== expected) throw new Error(yaml)
    })
  )
  t.pass()
})
