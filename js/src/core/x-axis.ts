/** What the horizontal axis shows, and where a record stands on it. */

import { logTicks, niceTicks } from "./axis";
import { pick, type Placed, type Points } from "./decimate";
import { duration, tick } from "./format";
import type { SeriesStore } from "./series";
import type { Mark } from "./wire";

export type XKind = "step" | "time" | "epoch";

export class XAxis {
  constructor(
    private readonly series: SeriesStore,
    /** Unix seconds; the time axis counts from here. */
    readonly start: number,
    readonly kind: XKind,
    readonly log: boolean,
  ) {}

  /** NaN where it is not known: between two steps whose epoch was recorded it is a line, beyond them nothing. */
  at(model: number, step: number, time: number): number {
    if (this.kind === "step") return step;
    if (this.kind === "time") return time - this.start;
    return between(this.series.curve(model, "epoch")?.points, step);
  }

  /** The points that have a place; on a logarithmic axis only those right of zero. */
  place(points: Points, model: number): Placed {
    const x = points.step.map((step, i) => this.at(model, step, points.time[i]));
    const placed = { ...points, x };
    const shown = (v: number): boolean => !Number.isNaN(v) && (!this.log || v > 0);
    if (x.every(shown)) return placed;
    return pick(placed, x.map((_, i) => i).filter((i) => shown(x[i])));
  }

  /** Where an event stands; events of the whole session follow the first model's epochs. */
  mark(mark: Mark): number | null {
    if (mark.step === null && this.kind !== "time") return null;
    return this.known(this.at(mark.model ?? 0, mark.step ?? NaN, mark.time));
  }

  /** Where a step of a model stands, by the points around it. */
  step(model: number, step: number, curve: Points | undefined): number | null {
    if (this.kind !== "time") return this.known(this.at(model, step, NaN));
    const i = curve === undefined ? -1 : curve.step.findIndex((s) => s >= step);
    return i < 0 ? null : this.known(curve!.time[i] - this.start);
  }

  /** Data units to what Plotly calls a range. */
  range([low, high]: [number, number]): [number, number] {
    return this.log ? [Math.log10(low), Math.log10(high)] : [low, high];
  }

  data([low, high]: [number, number]): [number, number] {
    return this.log ? [10 ** low, 10 ** high] : [low, high];
  }

  layout(range: [number, number], width: number): Record<string, unknown> {
    // Clock times are long; of the others a narrow chart has room for five, which are two at least once rounded.
    const wanted = Math.max(this.kind === "time" ? 2 : 5, Math.floor(width / 80));
    let ticks = this.log ? logTicks(Math.log10(range[0]), Math.log10(range[1])) : this.kind === "time" ? clockTicks(...range, wanted) : niceTicks(...range, wanted);
    if (this.kind === "step") ticks = ticks.filter(Number.isInteger);
    const text = (x: number): string => (this.kind === "time" && x >= 1 ? duration(x) : tick(x));
    const [low, high] = this.range(range);
    const plot = width - 56;
    // A label that would pass the chart's right edge is left out here: Plotly finds out by measuring all of them at each redraw.
    const fits = (x: number): boolean => 14 + (1 - ((this.log ? Math.log10(x) : x) - low) / (high - low)) * plot >= 3.3 * text(x).length;
    ticks = ticks.filter(fits);
    return {
      type: this.log ? "log" : "linear",
      range: [low, high],
      tickmode: "array",
      ticklabeloverflow: "allow",
      tickvals: ticks,
      ticktext: ticks.map(text),
      hoverformat: this.kind === "step" ? ",d" : ",.2f",
      unifiedhovertitle: { text: { step: "step %{x}", time: "%{x} s", epoch: "epoch %{x}" }[this.kind] },
    };
  }

  private known(x: number): number | null {
    return Number.isNaN(x) || (this.log && x <= 0) ? null : x;
  }
}

function between(epochs: Points | undefined, step: number): number {
  if (epochs === undefined || epochs.step.length === 0) return NaN;
  const { step: at, value } = epochs;
  let low = 0;
  let high = at.length - 1;
  if (step < at[0] || step > at[high]) return NaN;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (at[middle] <= step) low = middle;
    else high = middle;
  }
  return at[high] === at[low] ? value[low] : value[low] + ((value[high] - value[low]) * (step - at[low])) / (at[high] - at[low]);
}

const CLOCK = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 43_200, 86_400];

/** Minutes and hours divide by 60, not by 10. */
function clockTicks(low: number, high: number, wanted: number): number[] {
  const rough = (high - low) / wanted;
  if (rough < 1) return niceTicks(low, high, wanted);
  const step = CLOCK.find((s) => s >= rough) ?? 86_400 * Math.ceil(rough / 86_400);
  const ticks: number[] = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(i * step);
  return ticks;
}
