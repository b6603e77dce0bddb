export { type ConsoleOptions, websocketConsole, websocketConsole as default } from './plugin.js'
