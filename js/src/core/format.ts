/** Numbers and times as a reader of training curves writes them. Unknown is an en dash, never a default. */

import type { NonFinite, Num } from "./wire";

export const UNKNOWN = "\u2013";

const GLYPH: Record<NonFinite, string> = { NaN: "NaN", Infinity: "\u221e", "-Infinity": "\u2212\u221e" };

/** A loss-like value to three or four significant digits; a value that was not finite says so. */
export function value(x: Num | undefined, bad?: NonFinite): string {
  if (bad !== undefined) return GLYPH[bad];
  if (x === null || x === undefined) return UNKNOWN;
  const size = Math.abs(x);
  if (size === 0) return "0";
  if (size < 0.001) return exponent(x);
  if (size < 0.1) return x.toFixed(4);
  if (size < 10) return x.toFixed(3);
  if (size < 1000) return x.toFixed(1);
  return size < 1e6 ? count(x) : exponent(x);
}

/** A loss of the wire, which rounds it to four decimals: what reads 0 there is small, and maybe not 0. */
export function loss(x: Num | undefined, bad?: NonFinite): string {
  return x === 0 && bad === undefined ? "<1e-4" : value(x, bad);
}

export function count(x: Num | undefined): string {
  return x === null || x === undefined ? UNKNOWN : Math.round(x).toLocaleString("en-US");
}

/** 226k, 25.1M: parameters and tokens per second. */
export function compact(x: Num | undefined): string {
  if (x === null || x === undefined) return UNKNOWN;
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (Math.abs(x) >= size) return trim((x / size).toPrecision(3)) + unit;
  }
  return Math.abs(x) >= 10 || Number.isInteger(x) ? String(Math.round(x)) : trim(x.toPrecision(2));
}

/** Megabytes of 1e6 bytes. */
export function megabytes(x: Num | undefined): string {
  if (x === null || x === undefined) return UNKNOWN;
  return Math.abs(x) >= 1000 ? `${(x / 1000).toPrecision(3)} GB` : `${Math.round(x)} MB`;
}

export function percent(x: Num | undefined): string {
  if (x === null || x === undefined) return UNKNOWN;
  // 99.96 is not finished; only 100 reads 100.
  const shown = x >= 100 ? 100 : Math.min(99.9, x);
  return `${shown >= 10 || shown === 0 ? String(Math.floor(shown)) : shown.toFixed(1)}%`;
}

export function duration(seconds: Num | undefined): string {
  if (seconds === null || seconds === undefined || seconds < 0) return UNKNOWN;
  const s = Math.floor(seconds);
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${two(s % 60)}s`;
  if (s < 86_400) return `${Math.floor(s / 3600)}h ${two(Math.floor((s % 3600) / 60))}m`;
  return `${Math.floor(s / 86_400)}d ${two(Math.floor((s % 86_400) / 3600))}h`;
}

/** Axis labels: 0.003, 1, 50k. */
export function tick(x: number): string {
  const size = Math.abs(x);
  if (size >= 1000) return compact(x);
  if (size === 0 || size >= 0.001) return trim(x.toPrecision(4));
  return exponent(x);
}

/** One value of a configuration, on one line. */
export function setting(x: unknown): string {
  if (x === null || x === undefined) return UNKNOWN;
  if (typeof x === "number") {
    if (Number.isInteger(x) && Math.abs(x) < 1e6) return String(x);
    return Math.abs(x) >= 0.01 && Math.abs(x) < 1e6 ? trim(x.toPrecision(6)) : exponent(x);
  }
  if (typeof x === "string") return x;
  return JSON.stringify(x);
}

function exponent(x: number): string {
  return trim(x.toExponential(1).replace("e+", "e"));
}

/** 2.50 -> 2.5, 3.0e-4 -> 3e-4. */
function trim(text: string): string {
  return text.replace(/(\.\d*?)0+(e|$)/, "$1$2").replace(/\.(e|$)/, "$1");
}

function two(n: number): string {
  return String(n).padStart(2, "0");
}
