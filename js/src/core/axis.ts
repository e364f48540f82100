/** Ranges and ticks of the value axis. */

import { tick } from "./format";

export interface Axis {
  type: "log" | "linear";
  /** As Plotly wants it: exponents on a log axis. */
  range: [number, number];
  tickvals: number[];
  ticktext: string[];
}

/**
 * Few and explicit ticks: the labels of a log axis are the dearest part of a
 * Plotly draw (measured: 20 ms with its own, 12 ms with four or five).
 */
export function lossAxis(values: Iterable<number>, log = true): Axis {
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  if (!(low <= high)) return { type: "linear", range: [0, 1], tickvals: [], ticktext: [] };
  return log && low > 0 ? logAxis(low, high) : linearAxis(low, high);
}

function logAxis(low: number, high: number): Axis {
  let from = Math.log10(low);
  let to = Math.log10(high);
  const pad = Math.max(0.02, (to - from) * 0.06);
  from -= pad;
  to += pad;
  const ticks = logTicks(from, to);
  return { type: "log", range: [from, to], tickvals: ticks, ticktext: ticks.map(tick) };
}

export function logTicks(from: number, to: number): number[] {
  const span = to - from;
  if (span < 0.5) return niceTicks(10 ** from, 10 ** to, 5);
  const every = Math.max(1, Math.ceil(span / 5));
  const steps = span > 2.6 ? [1] : span > 1.2 ? [1, 3] : [1, 2, 5];
  const ticks: number[] = [];
  for (let decade = Math.floor(from); decade <= Math.ceil(to); decade++) {
    if (((decade % every) + every) % every !== 0) continue;
    for (const step of steps) {
      const at = step * 10 ** decade;
      if (Math.log10(at) >= from && Math.log10(at) <= to) ticks.push(Number(at.toPrecision(6)));
    }
  }
  return ticks;
}

/** A quantity of unknown kind: logarithmic only when it spans decades. */
export function quantityAxis(values: number[]): Axis {
  let low = Infinity;
  let high = -Infinity;
  for (const v of values) {
    if (v < low) low = v;
    if (v > high) high = v;
  }
  const axis = lossAxis(values, low > 0 && high / low > 50);
  // A narrow panel has room for three labels.
  const every = Math.ceil(axis.tickvals.length / 3);
  const keep = <T>(list: T[]): T[] => list.filter((_, i) => i % every === 0);
  return { ...axis, tickvals: keep(axis.tickvals), ticktext: keep(axis.ticktext) };
}

function linearAxis(low: number, high: number): Axis {
  const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 0.5;
  const range: [number, number] = [low - pad, high + pad];
  const ticks = niceTicks(range[0], range[1], 5);
  return { type: "linear", range, tickvals: ticks, ticktext: ticks.map(tick) };
}

export function niceTicks(low: number, high: number, wanted: number): number[] {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough) ?? 10 * power;
  const ticks: number[] = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(Number((i * step).toPrecision(6)));
  return ticks;
}
