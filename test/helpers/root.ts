import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The folder of the repository. Tests run from compiled copies, which have another path. */
export const root: string = dirname(fileURLToPath(import.meta.resolve('fastify-upgrade/package.json')))
