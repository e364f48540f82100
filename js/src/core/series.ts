/** The client's copy of the curves: every point once, bounded, spikes and NaN kept. */

import { minMax, pick, type Points } from "./decimate";
import type { NonFinite, SeriesBlock } from "./wire";

/** A curve is thinned to half of this when it grows beyond it; four times what is drawn, so a zoom has something to show at once. */
export const MAX_POINTS = 4000;
/** Non-finite values kept per curve. */
export const MAX_BAD = 400;

/** Rows over which the speed is measured. */
const PACE_ROWS = 40;

export interface BadPoint {
  seq: number;
  step: number;
  time: number;
  what: NonFinite;
}

export interface Curve {
  points: Points;
  bad: BadPoint[];
}

export class SeriesStore {
  private readonly curves = new Map<string, Curve>();
  private pace: { model: number; time: number; step: number }[] = [];

  /**
   * Adds the rows of a message that lie after `cursor`. Rows up to it have been
   * applied before: a message that overlaps is trimmed, never applied twice.
   * Rows with other columns come in blocks of their own, so that the order of
   * one model's points is restored after the last block.
   */
  apply(blocks: readonly SeriesBlock[], cursor: number): void {
    const touched = new Set<Curve>();
    for (const block of blocks) this.append(block, cursor, touched);
    for (const curve of touched) {
      inOrder(curve);
      this.bound(curve);
    }
    this.notePace(blocks, cursor);
  }

  private append(block: SeriesBlock, cursor: number, touched: Set<Curve>): void {
    const bad = new Map<number, NonFinite>();
    for (const [column, row, what] of block.nonFinite ?? []) bad.set(column * block.seq.length + row, what);
    block.columns.forEach((metric, c) => {
      const curve = this.ensure(block.model, metric);
      const column = block.values[c] ?? [];
      touched.add(curve);
      for (let row = 0; row < block.seq.length; row++) {
        if (block.seq[row] <= cursor) continue;
        const value = column[row];
        const what = bad.get(c * block.seq.length + row);
        if (what !== undefined) {
          curve.bad.push({ seq: block.seq[row], step: block.step[row], time: block.time[row], what });
        } else if (typeof value === "number") {
          curve.points.seq.push(block.seq[row]);
          curve.points.step.push(block.step[row]);
          curve.points.time.push(block.time[row]);
          curve.points.value.push(value);
        }
      }
    });
  }

  curve(model: number, metric: string): Curve | undefined {
    return this.curves.get(key(model, metric));
  }

  /** The metric exists for some model: it has a value, or it had one that was not finite. */
  has(metric: string): boolean {
    for (const [name, curve] of this.curves) {
      if (name.slice(name.indexOf(":") + 1) === metric && (curve.points.seq.length > 0 || curve.bad.length > 0)) return true;
    }
    return false;
  }

  models(): number[] {
    return [...new Set([...this.curves.keys()].map((name) => parseInt(name, 10)))].sort((a, b) => a - b);
  }

  /** Steps per second over the last rows of the model that wrote last, or null. */
  stepsPerSecond(): number | null {
    const last = this.pace[this.pace.length - 1];
    if (this.pace.length < 2) return null;
    const first = this.pace.find((p) => p.model === last.model)!;
    const seconds = last.time - first.time;
    const steps = last.step - first.step;
    return seconds > 0 && steps > 0 ? steps / seconds : null;
  }

  clear(): void {
    this.curves.clear();
    this.pace = [];
  }

  private ensure(model: number, metric: string): Curve {
    const name = key(model, metric);
    let curve = this.curves.get(name);
    if (curve === undefined) {
      curve = { points: { seq: [], step: [], time: [], value: [] }, bad: [] };
      this.curves.set(name, curve);
    }
    return curve;
  }

  private bound(curve: Curve): void {
    if (curve.points.seq.length > MAX_POINTS) curve.points = minMax(curve.points, MAX_POINTS / 4);
    // A run that is only NaN would grow without end; every second mark tells the same story.
    if (curve.bad.length > MAX_BAD) curve.bad = curve.bad.filter((_, i) => i % 2 === 0);
  }

  private notePace(blocks: readonly SeriesBlock[], cursor: number): void {
    for (const { model, seq, time, step } of blocks) {
      for (let row = Math.max(0, seq.length - PACE_ROWS); row < seq.length; row++) {
        if (seq[row] > cursor) this.pace.push({ model, time: time[row], step: step[row] });
      }
    }
    this.pace.sort((a, b) => a.time - b.time);
    if (this.pace.length > PACE_ROWS) this.pace = this.pace.slice(-PACE_ROWS);
  }
}

/** Sorts by `seq` where it is not sorted already, which is the usual case. */
function inOrder(curve: Curve): void {
  const { seq } = curve.points;
  if (seq.some((s, i) => i > 0 && s < seq[i - 1])) {
    const order = seq.map((_, i) => i).sort((a, b) => seq[a] - seq[b]);
    curve.points = pick(curve.points, order);
  }
  curve.bad.sort((a, b) => a.seq - b.seq);
}

function key(model: number, metric: string): string {
  return `${model}:${metric}`;
}
