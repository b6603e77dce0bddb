// npm run bench:micro: measures the parts of the built protocol core separately.
import { run } from 'mitata'
import { addCases } from './micro-cases.js'

addCases()
await run({ colors: process.stdout.isTTY })
