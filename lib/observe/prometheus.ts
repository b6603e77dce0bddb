import type { FastifyPluginAsync } from 'fastify'
import { Counter, Gauge, register as globalRegistry, Histogram, type Registry } from 'prom-client'
import {
  type Attributes,
  type HistogramInstrument,
  INSTRUMENTS,
  type Instrument,
  type Meter,
  Metrics,
  type MetricsOptions,
  metricsPlugin,
  type Recorder
} from './metrics.js'

/** Options of {@link prometheusMetrics}. */
export interface PrometheusOptions extends MetricsOptions {
  /** The registry to which the metrics are added. Default: the global one of `prom-client`. */
  readonly registry?: Registry | undefined
}

/** Applications with the same registry share its metrics, so that one of them can replace another. */
const metricsByRegistry = new WeakMap<Registry, Metrics>()

/**
 * Adds the metrics of `websocketServer` to a registry of `prom-client`. Register it after fastify-upgrade, in the same
 * scope. It adds no route: the application decides how the registry is scraped.
 * @throws `FST_ERR_PLUGIN_DEPENDENCY_NOT_REGISTERED` when fastify-upgrade is not registered.
 */
export const prometheusMetrics: FastifyPluginAsync<PrometheusOptions> = metricsPlugin(
  'fastify-upgrade/prometheus',
  options => metricsOf(options.registry ?? globalRegistry, options)
)

function metricsOf(registry: Registry, options: MetricsOptions): Metrics {
  const known = metricsByRegistry.get(registry)
  // The application may have cleared the registry.
  const isIntact = registry.getSingleMetric(gaugeName(INSTRUMENTS.activeConnections)) !== undefined
  if (known !== undefined && isIntact) return known
  const metrics = new Metrics(new PrometheusMeter(registry), options)
  metricsByRegistry.set(registry, metrics)
  return metrics
}

/** Creates metrics in a registry. */
class PrometheusMeter implements Meter {
  readonly #registers: Registry[]

  constructor(registry: Registry) {
    this.#registers = [registry]
  }

  counter(instrument: Instrument): Recorder {
    const counter = new Counter({ ...this.#configuration(instrument), name: counterName(instrument) })
    return (value, attributes) => counter.inc(labelsOf(attributes), value)
  }

  histogram(instrument: HistogramInstrument): Recorder {
    const histogram = new Histogram({
      ...this.#configuration(instrument),
      name: gaugeName(instrument),
      buckets: [...instrument.buckets]
    })
    return (value, attributes) => histogram.observe(labelsOf(attributes), value)
  }

  observedCounter(instrument: Instrument, read: (record: Recorder) => void): void {
    new Counter({
      ...this.#configuration(instrument),
      name: counterName(instrument),
      collect() {
        this.reset()
        read((value, attributes) => this.inc(labelsOf(attributes), value))
      }
    })
  }

  gauge(instrument: Instrument, read: (record: Recorder) => void): void {
    new Gauge({
      ...this.#configuration(instrument),
      name: gaugeName(instrument),
      collect() {
        this.reset()
        read((value, attributes) => this.set(labelsOf(attributes), value))
      }
    })
  }

  #configuration({ description, attributes }: Instrument): {
    readonly help: string
    readonly labelNames: string[]
    readonly registers: Registry[]
  } {
    return { help: description, labelNames: attributes.map(underscored), registers: this.#registers }
  }
}

/** The suffix of a name, by the unit; annotations such as `{message}` have none. */
const SUFFIXES: Readonly<Record<string, string>> = { s: '_seconds', By: '_bytes' }

// The names are those that the Prometheus exporters of OpenTelemetry make, so that both sets of metrics look the same.
function gaugeName({ name, unit }: Instrument): string {
  return underscored(name) + (SUFFIXES[unit] ?? '')
}

function counterName(instrument: Instrument): string {
  return `${gaugeName(instrument)}_total`
}

function underscored(name: string): string {
  return name.replaceAll('.', '_')
}

function labelsOf(attributes: Attributes): Record<string, string> {
  return Object.fromEntries(Object.entries(attributes).map(([name, value]) => [underscored(name), value]))
}
