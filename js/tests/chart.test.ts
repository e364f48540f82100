import { afterEach, describe, expect, it, vi } from "vitest";
import { lossAxis } from "../src/core/axis";
import { Chart } from "../src/core/chart";
import { DEFAULT_OPTIONS, DRAWN_POINTS, buildFigure, type View } from "../src/core/figure";
import type { PlotlyApi } from "../src/core/plotly-loader";
import { look, moveCurves, named } from "../src/core/quick-draw";
import { SeriesStore } from "../src/core/series";
import { readTheme } from "../src/core/theme";
import { model, status } from "./fixtures";

interface Trace {
  name: string;
  x: number[];
  y: (number | null)[];
  yaxis: string;
  line: { dash: string };
  marker: { symbol: string };
}

function grokking(steps = 3000): SeriesStore {
  const series = new SeriesStore();
  const at = Array.from({ length: steps }, (_, i) => i + 1);
  const columns = ["loss", "val_loss", "accuracy", "val_accuracy", "rank_val"];
  const values = [at.map((i) => 3 / i), at.map((i) => 4 - i / steps), at.map(() => 1), at.map((i) => i / steps), at.map((i) => i / steps)];
  series.apply([{ model: 0, columns, seq: at, step: at, time: at, values }], 0);
  return series;
}

function view(series: SeriesStore, over: Partial<View> = {}): View {
  const card = document.createElement("div");
  return { status: status({ models: [model({ grokOnsetStep: 1200 })] }), series, hidden: new Set(), options: DEFAULT_OPTIONS, zoom: null, detail: null, theme: readTheme(card), width: 700, touch: false, ...over };
}

describe("figure", () => {
  it("draws train and validation apart by line style, and the grokking panel below on the same steps", () => {
    const { data, layout, shown } = buildFigure(view(grokking()));
    const traces = data as Trace[];
    expect(traces.map((t) => [t.name, t.line.dash, t.yaxis])).toEqual([
      ["train", "solid", "y"], ["validation", "7px,3px", "y"], ["train accuracy", "solid", "y2"], ["validation accuracy", "7px,3px", "y2"], ["rank progress", "2px,2px", "y2"],
    ]);
    expect(shown.map((s) => s.metric)).toEqual(["loss", "val_loss", "accuracy", "val_accuracy", "rank_val"]);
    expect(Math.max(...(traces[4].y as number[]))).toBe(100);
    expect(layout.shapes).toHaveLength(1);
    for (const trace of traces) expect(trace.x.length).toBeLessThanOrEqual(DRAWN_POINTS);
  });

  it("marks a value that is not a number at the bottom, breaks the line there, and never draws zero", () => {
    const series = new SeriesStore();
    series.apply([{ model: 0, columns: ["loss"], seq: [1, 2, 3], step: [10, 20, 30], time: [1, 2, 3], values: [[2, null, 1]], nonFinite: [[0, 1, "NaN"]] }], 0);
    const [line, crosses] = buildFigure(view(series)).data as Trace[];
    expect(line.x).toEqual([10, 20, 30]);
    expect(line.y).toEqual([2, null, 1]);
    expect(crosses.x).toEqual([20]);
    expect(crosses.marker.symbol).toBe("x-thin");
    expect(crosses.yaxis).toBe("y3");
  });

  it("shows events with their text, inert", () => {
    const marks = [
      { seq: 1, time: 1, step: 5, model: 0, event: "alert", data: { message: "<a href='javascript:1'>x</a>" } },
      { seq: 2, time: 1, step: null, model: 0, event: "paused", data: {} },
    ];
    const figure = buildFigure(view(grokking(10), { status: status({ marks }) }));
    const events = (figure.data as (Trace & { text: string[] })[]).find((t) => t.name === "event")!;
    expect(events.text).toEqual(["alert (model 1): &lt;a href='javascript:1'&gt;x&lt;/a&gt;"]);
  });

  it("puts the detail of a zoomed window in place of the thinned points", () => {
    const series = new SeriesStore();
    const coarse = [1, 50, 100, 150];
    series.apply([{ model: 0, columns: ["loss"], seq: coarse, step: coarse, time: coarse, values: [[4, 3, 2, 1]] }], 0);
    const detail = new SeriesStore();
    const fine = [60, 70, 80, 90];
    detail.apply([{ model: 0, columns: ["loss"], seq: fine, step: fine, time: fine, values: [[9, 9, 9, 9]] }], 0);
    const [line] = buildFigure(view(series, { zoom: [55, 95], detail })).data as Trace[];
    expect(line.x).toEqual([50, 60, 70, 80, 90, 100]);
  });

  it("draws a session without a loss by its first metric", () => {
    const series = new SeriesStore();
    series.apply([{ model: 0, columns: ["reward"], seq: [1, 2], step: [1, 2], time: [1, 2], values: [[-3, 5]] }], 0);
    const figure = buildFigure(view(series, { status: status({ metricNames: ["reward"] }) }));
    expect((figure.data as Trace[])[0].name).toBe("reward");
    expect((figure.layout.yaxis as { type: string }).type).toBe("linear");
  });

  it("labels a loss axis with few ticks whatever its range", () => {
    for (const [low, high] of [[1e-8, 10], [0.9, 1.1], [2, 6], [0.01, 0.5], [3, 3], [-2, 4]]) {
      const axis = lossAxis([low, high]);
      expect(axis.tickvals.length).toBeGreaterThanOrEqual(2);
      expect(axis.tickvals.length).toBeLessThanOrEqual(8);
    }
  });
});

describe("chart", () => {
  afterEach(() => document.body.replaceChildren());

  async function until(condition: () => boolean): Promise<void> {
    for (let i = 0; i < 200 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 25));
  }

  function mount(plotly: PlotlyApi, series: SeriesStore): Chart {
    const chart = new Chart(() => Promise.resolve(plotly), (width) => buildFigure(view(series, { width })), () => undefined);
    Object.defineProperty(chart.node, "clientWidth", { value: 640, configurable: true });
    document.body.append(chart.node);
    // happy-dom has no layout: nothing ever intersects, so say that it does.
    (chart as unknown as { seen: boolean }).seen = true;
    return chart;
  }

  it("draws a path with the real Plotly", async () => {
    const plotly = (await import("plotly.js-basic-dist-min")) as unknown as { default: PlotlyApi };
    const chart = mount(plotly.default, grokking(200));
    chart.draw();
    await until(() => chart.node.querySelector("path.js-line") !== null);
    const path = chart.node.querySelector("path.js-line")?.getAttribute("d") ?? "";
    expect(path).toMatch(/^M[\d.]+,[\d.]+L/);
    expect(chart.node.querySelectorAll("path.js-line")).toHaveLength(5);
    chart.dispose();
    expect(chart.node.querySelector("path.js-line")).toBeNull();
  });

  /** A run of `steps` rows whose curves touch no other edge of their panel than the right one. */
  function growing(steps: number): SeriesStore {
    const series = new SeriesStore();
    const at = Array.from({ length: steps }, (_, i) => i + 1);
    const wave = (a: number): number[] => at.map((i) => a + Math.sin(i));
    series.apply([{ model: 0, columns: ["loss", "val_loss", "accuracy", "val_accuracy"], seq: at, step: at, time: at, values: [wave(2), wave(3), wave(2).map((v) => v / 4), wave(2).map((v) => v / 5)] }], 0);
    return series;
  }

  const paths = (node: Element): string[] => [...node.querySelectorAll("path.js-line")].map((p) => p.getAttribute("d") ?? "");

  it("moves the curves to where Plotly would draw them in the same axes", async () => {
    const { default: plotly } = (await import("plotly.js-basic-dist-min")) as unknown as { default: PlotlyApi };
    const [first, next] = [growing(900), growing(905)].map((series) => buildFigure(view(series, { width: 640 })));
    const plot = document.createElement("div");
    document.body.append(plot);
    await plotly.react(plot, named(first), first.layout);
    const before = paths(plot);
    expect(moveCurves(plot, first, next)).toBe(true);
    const moved = paths(plot);
    await plotly.react(plot, named(next), first.layout);
    const numbers = (all: string[]): number[] => all.join().match(/[\d.]+/g)!.map(Number);
    const theirs = numbers(paths(plot));
    expect(moved).toHaveLength(4);
    expect(moved).not.toEqual(before);
    expect(numbers(moved)).toHaveLength(theirs.length);
    numbers(moved).forEach((n, i) => expect(Math.abs(n - theirs[i])).toBeLessThan(0.02));
    plotly.purge(plot);
  });

  it("leaves to Plotly what does not fit into the axes, has a gap, or looks different", () => {
    const plot = document.createElement("div");
    const first = buildFigure(view(growing(300)));
    expect(moveCurves(plot, first, buildFigure(view(growing(400))))).toBe(false);
    const gap = growing(300);
    gap.apply([{ model: 0, columns: ["loss"], seq: [301, 302], step: [301, 302], time: [301, 302], values: [[null, 2]], nonFinite: [[0, 0, "NaN"]] }], 300);
    expect(moveCurves(plot, first, buildFigure(view(gap)))).toBe(false);
    expect(look(buildFigure(view(growing(301))))).toBe(look(first));
    expect(look(buildFigure(view(gap)))).not.toBe(look(first));
    expect(look(buildFigure(view(growing(300), { hidden: new Set(["kind:val"]) })))).not.toBe(look(first));
    expect(look(buildFigure(view(growing(300), { zoom: [5, 50] })))).not.toBe(look(first));
  });

  it("has Plotly draw under the pointer and after two seconds, and only moves the curves else", async () => {
    const { default: real } = (await import("plotly.js-basic-dist-min")) as unknown as { default: PlotlyApi };
    const react = vi.fn(real.react.bind(real));
    let series = growing(900);
    const chart = new Chart(() => Promise.resolve({ ...real, react }), (width) => buildFigure(view(series, { width })), () => undefined);
    Object.defineProperty(chart.node, "clientWidth", { value: 640, configurable: true });
    document.body.append(chart.node);
    (chart as unknown as { seen: boolean }).seen = true;
    await until(() => paths(chart.node).length === 4);
    const [began] = paths(chart.node);
    series = growing(903);
    chart.draw();
    await until(() => paths(chart.node)[0] !== began);
    expect(react).toHaveBeenCalledTimes(1);
    chart.node.querySelector(".forge-plot")!.dispatchEvent(new Event("pointerenter"));
    await vi.waitFor(() => expect(react).toHaveBeenCalledTimes(2), { timeout: 1200 });
    chart.node.querySelector(".forge-plot")!.dispatchEvent(new Event("pointerleave"));
    series = growing(906);
    chart.draw();
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(react).toHaveBeenCalledTimes(2);
    await until(() => react.mock.calls.length === 3);
    chart.dispose();
  });

  it("keeps one draw in flight, and draws the last state when it is done", async () => {
    let finish: () => void = () => undefined;
    const react = vi.fn(() => new Promise<void>((resolve) => (finish = resolve)));
    const chart = mount({ react, purge: vi.fn(), Plots: { resize: vi.fn() } }, grokking(20));
    chart.draw();
    await until(() => react.mock.calls.length === 1);
    for (let i = 0; i < 50; i++) chart.draw();
    await new Promise((resolve) => setTimeout(resolve, 250));
    expect(react).toHaveBeenCalledTimes(1);
    finish();
    await until(() => react.mock.calls.length === 2);
    finish();
    await new Promise((resolve) => setTimeout(resolve, 250));
    expect(react).toHaveBeenCalledTimes(2);
    chart.dispose();
  });

  it("waits while it has no width", async () => {
    const react = vi.fn(() => Promise.resolve());
    const chart = mount({ react, purge: vi.fn(), Plots: { resize: vi.fn() } }, grokking(20));
    Object.defineProperty(chart.node, "clientWidth", { value: 0, configurable: true });
    chart.draw();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(react).not.toHaveBeenCalled();
    Object.defineProperty(chart.node, "clientWidth", { value: 500, configurable: true });
    await until(() => react.mock.calls.length > 0);
    expect(react).toHaveBeenCalledTimes(1);
    chart.dispose();
  });
});
