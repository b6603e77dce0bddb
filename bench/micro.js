// npm run bench:micro: the parts of the protocol core by themselves, as they were built.
import { run } from 'mitata'
import { addCases } from './micro-cases.js'

addCases()
await run({ colors: process.stdout.isTTY })
