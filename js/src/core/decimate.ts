/** Min/max decimation: what is left still touches every spike. */

export interface Points {
  seq: number[];
  step: number[];
  /** Unix seconds. */
  time: number[];
  value: number[];
}

/** Points with their place on the horizontal axis, whatever that shows. */
export interface Placed extends Points {
  x: number[];
}

/**
 * The lowest and the highest point of each bucket of `at` (the step, unless told
 * otherwise), in arrival order, with the first and the last point kept. A bucket
 * also ends where the step runs backwards, so that a branch after a restart from a checkpoint stays its
 * own branch. At most about `2 * buckets` points for one branch.
 */
export function minMax<T extends Points>(points: T, buckets: number, at: number[] = points.step): T {
  const n = at.length;
  if (n <= 2 * buckets) return points;
  let low = Infinity;
  let high = -Infinity;
  for (const x of at) {
    if (x < low) low = x;
    if (x > high) high = x;
  }
  const width = (high - low) / buckets || 1;
  const keep: number[] = [];
  let start = 0;
  let bucket = bucketOf(at[0], low, width, buckets);
  for (let i = 1; i <= n; i++) {
    const next = i < n ? bucketOf(at[i], low, width, buckets) : -1;
    if (next === bucket) continue;
    keepExtremes(points.value, start, i, keep);
    start = i;
    bucket = next;
  }
  if (keep[0] !== 0) keep.unshift(0);
  if (keep[keep.length - 1] !== n - 1) keep.push(n - 1);
  return pick(points, keep);
}

/** The points with `from <= at <= to`, plus one neighbour on each side so that lines leave the frame. */
export function clip<T extends Points>(points: T, from: number, to: number, at: number[] = points.step): T {
  const keep: number[] = [];
  const n = at.length;
  const inside = (i: number): boolean => i >= 0 && i < n && at[i] >= from && at[i] <= to;
  for (let i = 0; i < n; i++) {
    if (inside(i) || inside(i - 1) || inside(i + 1)) keep.push(i);
  }
  return keep.length === n ? points : pick(points, keep);
}

function bucketOf(x: number, low: number, width: number, buckets: number): number {
  return Math.min(buckets - 1, Math.floor((x - low) / width));
}

function keepExtremes(values: number[], from: number, to: number, keep: number[]): void {
  let low = from;
  let high = from;
  for (let i = from + 1; i < to; i++) {
    if (values[i] < values[low]) low = i;
    if (values[i] > values[high]) high = i;
  }
  keep.push(Math.min(low, high));
  if (low !== high) keep.push(Math.max(low, high));
}

/** The rows at those indices, in every column. */
export function pick<T extends Points>(points: T, keep: number[]): T {
  return Object.fromEntries(Object.entries(points as unknown as Record<string, number[]>).map(([name, column]) => [name, keep.map((i) => column[i])])) as unknown as T;
}
