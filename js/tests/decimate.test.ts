import { describe, expect, it } from "vitest";
import { clip, minMax, type Points } from "../src/core/decimate";
import { MAX_BAD, MAX_POINTS, SeriesStore } from "../src/core/series";
import { block, prng } from "./fixtures";

function curve(n: number, value: (i: number) => number): Points {
  const at = Array.from({ length: n }, (_, i) => i);
  return { seq: at.map((i) => i + 1), step: at, time: at, value: at.map(value) };
}

describe("min/max decimation", () => {
  it("keeps one-step spikes, the ends and the order, within its bound", () => {
    const random = prng(7);
    const spikes = new Set(Array.from({ length: 50 }, (_, i) => i * 1993 + 17));
    const points = curve(100_000, (i) => (spikes.has(i) ? 100 + i : random()));
    const thin = minMax(points, 399);
    expect(thin.step.length).toBeLessThanOrEqual(800);
    for (const at of spikes) expect(thin.step).toContain(at);
    expect(thin.step[0]).toBe(0);
    expect(thin.step[thin.step.length - 1]).toBe(99_999);
    expect(thin.step).toEqual([...thin.step].sort((a, b) => a - b));
  });

  it("keeps both branches after a restart from a checkpoint", () => {
    const first = curve(2000, () => 1);
    const again = curve(2000, () => 2);
    const both = { seq: [...first.seq, ...again.seq], step: [...first.step, ...again.step], time: [...first.time, ...again.time], value: [...first.value, ...again.value] };
    const thin = minMax(both, 100);
    expect(thin.step.filter((x, i) => i > 0 && x < thin.step[i - 1])).toHaveLength(1);
    expect(new Set(thin.value)).toEqual(new Set([1, 2]));
  });

  it("leaves short curves alone", () => {
    const points = curve(10, (i) => i);
    expect(minMax(points, 5)).toBe(points);
  });

  it("clips to a window with one neighbour on each side", () => {
    expect(clip(curve(10, (i) => i), 4, 6).step).toEqual([3, 4, 5, 6, 7]);
  });
});

describe("series store", () => {
  it("stays bounded on a long run and keeps a spike and a NaN mark from its beginning", () => {
    const store = new SeriesStore();
    let seq = 0;
    for (let message = 0; message < 600; message++) {
      const rows: [number, number, number | null][] = [];
      for (let i = 0; i < 100; i++) {
        seq += 1;
        rows.push([seq, seq, seq === 777 ? 1e6 : seq === 888 ? null : 1 + Math.sin(seq)]);
      }
      const at = rows.findIndex((r) => r[0] === 888);
      store.apply([block(rows, at < 0 ? {} : { nonFinite: [[0, at, "NaN"]] })], seq - 100);
    }
    const { points, bad } = store.curve(0, "loss")!;
    expect(points.seq.length).toBeLessThanOrEqual(MAX_POINTS);
    expect(points.seq.length).toBeGreaterThan(MAX_POINTS / 4);
    expect(points.step).toContain(777);
    expect(bad).toEqual([{ seq: 888, step: 888, time: 888, what: "NaN" }]);
  });

  it("restores the order of rows that came in several blocks of one message", () => {
    const store = new SeriesStore();
    const wide = { model: 0, columns: ["loss", "val_loss"], seq: [3, 6], step: [30, 60], time: [3, 6], values: [[3, 6], [9, 9]] };
    store.apply([wide, block([[1, 10, 1], [2, 20, 2], [4, 40, 4], [5, 50, 5]])], 0);
    expect(store.curve(0, "loss")!.points).toEqual({ seq: [1, 2, 3, 4, 5, 6], step: [10, 20, 30, 40, 50, 60], time: [1, 2, 3, 4, 5, 6], value: [1, 2, 3, 4, 5, 6] });
  });

  it("bounds a run that is only NaN", () => {
    const store = new SeriesStore();
    for (let seq = 1; seq < 5000; seq++) store.apply([block([[seq, seq, null]], { nonFinite: [[0, 0, "NaN"]] })], seq - 1);
    expect(store.curve(0, "loss")!.bad.length).toBeLessThanOrEqual(MAX_BAD);
  });

  it("measures speed on the model that writes now", () => {
    const store = new SeriesStore();
    store.apply([{ ...block([[1, 900, 1], [2, 1000, 1]]), time: [0, 1] }], 0);
    store.apply([{ ...block([[3, 10, 1], [4, 30, 1]]), model: 1, time: [2, 4] }], 2);
    expect(store.stepsPerSecond()).toBe(10);
  });
});
