/** A running mean that lets noisy curves be told apart. The raw curve is always drawn behind it. */

import type { Placed } from "./decimate";

/** Below this many points there is no noise to look through. */
const FEWEST = 60;
/** Width of the window as a share of the points, when several models' curves would hide each other. */
export const SEVERAL = 0.03;
export const WIDEST = 0.2;

/**
 * Centred running mean, or null where it would say nothing; of the logarithms where
 * the axis is logarithmic. The points are those this page holds: where a long curve is
 * thinned to the lowest and highest of each bucket, it is the mean of these.
 */
export function smoothed(points: Placed, share: number, logAxis: boolean): Placed | null {
  const n = points.value.length;
  if (share <= 0 || n < FEWEST) return null;
  const log = logAxis && points.value.every((v) => v > 0);
  const half = Math.max(2, Math.round((n * share) / 2));
  const sum = new Float64Array(n + 1);
  for (let i = 0; i < n; i++) sum[i + 1] = sum[i] + (log ? Math.log(points.value[i]) : points.value[i]);
  const value = points.value.map((_, i) => {
    // The same reach on both sides while the curve falls steeply at its beginning. At the
    // end only the past is there: a shrinking window would end in the last raw value.
    const left = Math.min(half, i);
    const right = Math.min(left, n - 1 - i);
    const mean = (sum[i + right + 1] - sum[i - left]) / (left + right + 1);
    return log ? Math.exp(mean) : mean;
  });
  return { ...points, value };
}
