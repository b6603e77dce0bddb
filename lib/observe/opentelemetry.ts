import {
  type MeterProvider,
  metrics as metricsApi,
  type Meter as OpenTelemetryApiMeter
} from '@opentelemetry/api'
import type { FastifyPluginAsync } from 'fastify'
import {
  type HistogramInstrument,
  type Instrument,
  type Meter,
  Metrics,
  type MetricsOptions,
  metricsPlugin,
  type Recorder
} from './metrics.js'

export { opentelemetrySpans, type SpanOptions } from './spans.js'

/** Options of {@link opentelemetryMetrics}. */
export interface OpenTelemetryOptions extends MetricsOptions {
  /** Default: the global one of `@opentelemetry/api` at the time of the registration. */
  readonly meterProvider?: MeterProvider | undefined
}

/** Applications with the same provider share its metrics, so that one of them can replace another. */
const metricsByProvider = new WeakMap<MeterProvider, Metrics>()

/**
 * Records the metrics of `websocketServer` with OpenTelemetry. Start the SDK first, then register this after fastify-upgrade,
 * in the same scope.
 * @throws `FST_ERR_PLUGIN_DEPENDENCY_NOT_REGISTERED` when fastify-upgrade is not registered.
 */
export const opentelemetryMetrics: FastifyPluginAsync<OpenTelemetryOptions> = metricsPlugin(
  'fastify-upgrade/opentelemetry',
  options => metricsOf(options.meterProvider ?? metricsApi.getMeterProvider(), options)
)

function metricsOf(provider: MeterProvider, options: MetricsOptions): Metrics {
  let metrics = metricsByProvider.get(provider)
  if (metrics === undefined) {
    metrics = new Metrics(new OpenTelemetryMeter(provider.getMeter('fastify-upgrade')), options)
    metricsByProvider.set(provider, metrics)
  }
  return metrics
}

/** Creates metrics in a meter of OpenTelemetry. */
class OpenTelemetryMeter implements Meter {
  readonly #meter: OpenTelemetryApiMeter

  constructor(meter: OpenTelemetryApiMeter) {
    this.#meter = meter
  }

  counter({ name, description, unit }: Instrument): Recorder {
    const counter = this.#meter.createCounter(name, { description, unit })
    return (value, attributes) => counter.add(value, { ...attributes })
  }

  histogram({ name, description, unit, buckets }: HistogramInstrument): Recorder {
    const advice = { explicitBucketBoundaries: [...buckets] }
    const histogram = this.#meter.createHistogram(name, { description, unit, advice })
    return (value, attributes) => histogram.record(value, { ...attributes })
  }

  observedCounter({ name, description, unit }: Instrument, read: (record: Recorder) => void): void {
    const counter = this.#meter.createObservableCounter(name, { description, unit })
    counter.addCallback(result => read((value, attributes) => result.observe(value, { ...attributes })))
  }

  gauge({ name, description, unit }: Instrument, read: (record: Recorder) => void): void {
    const gauge = this.#meter.createObservableUpDownCounter(name, { description, unit })
    gauge.addCallback(result => read((value, attributes) => result.observe(value, { ...attributes })))
  }
}
