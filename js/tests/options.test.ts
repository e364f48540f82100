import { describe, expect, it } from "vitest";
import { csv, fileName } from "../src/core/export";
import { DEFAULT_OPTIONS, buildFigure, type ChartOptions, type View } from "../src/core/figure";
import { otherMetrics } from "../src/core/metrics-shown";
import { SeriesStore } from "../src/core/series";
import { readTheme } from "../src/core/theme";
import { XAxis } from "../src/core/x-axis";
import { metrics, model, status } from "./fixtures";

interface Trace {
  name: string;
  x: number[];
  y: (number | null)[];
  yaxis: string;
  hoverinfo?: string;
  line: { color: string };
}
interface Layout {
  xaxis: { type: string; range: [number, number]; ticktext: string[]; tickvals: number[] };
  yaxis: { type: string };
  yaxis4?: { type: string; domain: [number, number] };
  annotations: { text: string; x: number }[];
  shapes: { x0: number }[];
}

const N = 200;

/** A step each half second from second 1000 on; one epoch each 50 steps, recorded at its end. */
function series(): SeriesStore {
  const store = new SeriesStore();
  const at = Array.from({ length: N }, (_, i) => i + 1);
  const noise = (i: number): number => (i % 2 === 0 ? 1.2 : 0.8);
  store.apply([{ model: 0, columns: ["loss", "lr", "grad_norm"], seq: at, step: at, time: at.map((i) => 1000 + i / 2), values: [at.map((i) => noise(i) * 10), at.map(() => 1e-3), at.map((i) => 10 ** (i / 50))] }], 0);
  store.apply([{ model: 0, columns: ["epoch"], seq: [201, 202, 203], step: [50, 100, 150], time: [1, 2, 3], values: [[1, 2, 3]] }], 200);
  return store;
}

function draw(options: Partial<ChartOptions>, over: Partial<View> = {}): { data: Trace[]; layout: Layout; figure: ReturnType<typeof buildFigure> } {
  const view: View = {
    status: status({ status: "completed", startTime: 1000, metricNames: ["loss", "lr", "grad_norm", "epoch"], models: [model({ grokOnsetStep: 120 })], marks: [{ seq: 9, time: 1040, step: 80, model: 0, event: "checkpoint_saved", data: {} }] }),
    series: series(), hidden: new Set(), options: { ...DEFAULT_OPTIONS, ...options }, zoom: null, detail: null, theme: readTheme(document.createElement("div")), width: 700, touch: false, ...over,
  };
  const figure = buildFigure(view);
  return { data: figure.data as Trace[], layout: figure.layout as unknown as Layout, figure };
}

describe("chart options", () => {
  it("shows the time since the session began, with its events and ticks in it", () => {
    const { data, layout } = draw({ x: "time" });
    expect(data[0].x.slice(0, 2)).toEqual([0.5, 1]);
    expect(layout.xaxis.range).toEqual([0.5, 100]);
    expect(layout.xaxis.ticktext).toContain("1m 00s");
    expect(data.find((t) => t.name === "event")!.x).toEqual([40]);
  });

  it("leaves a running curve room for two seconds, and an ended one none", () => {
    const range = (over: Parameters<typeof status>[0]): number[] => draw({}, { status: status({ metricNames: ["loss"], ...over }) }).layout.xaxis.range;
    expect(range({ metrics: metrics({ trainingTime: 100 }) })).toEqual([1, 200 + 199 * 0.02]);
    expect(range({ metrics: metrics({ trainingTime: 0 }) })[1]).toBeCloseTo(200 + 199 * 0.1);
    expect(range({ status: "completed" })).toEqual([1, 200]);
  });

  it("interpolates epochs between records and draws nothing beyond them", () => {
    const { data, layout } = draw({ x: "epoch" });
    expect(data[0].x[0]).toBe(1);
    expect(data[0].x[25]).toBeCloseTo(1.5);
    expect(data[0].x[data[0].x.length - 1]).toBe(3);
    expect(data[0].x).toHaveLength(101);
    expect(layout.shapes.map((s) => s.x0)).toEqual([1.6, 2.4]);
  });

  it("gives Plotly exponents for ranges and labels of a logarithmic axis, and its data as they are", () => {
    const { data, layout } = draw({ logX: true, logY: false });
    expect(layout.xaxis.type).toBe("log");
    expect(layout.xaxis.range).toEqual([0, Math.log10(200)]);
    expect(layout.yaxis.type).toBe("linear");
    expect(data[0].x[0]).toBe(1);
    expect(layout.annotations.find((a) => a.text === "grokking")!.x).toBeCloseTo(Math.log10(120));
    expect(layout.shapes.map((s) => s.x0)).toEqual([80, 120]);
    expect(layout.xaxis.tickvals.every((x) => x >= 1 && x <= 200)).toBe(true);
  });

  it("keeps the raw curve, with its values under the pointer, behind the running mean", () => {
    const off = draw({ smoothing: 0 });
    expect(off.figure.smooth).toBe(false);
    expect(off.data.filter((t) => t.name === "train")).toHaveLength(1);
    const [raw, mean] = draw({ smoothing: 0.1 }).data.filter((t) => t.name === "train");
    expect(raw.y).toEqual(off.data[0].y);
    expect(raw.line.color).toMatch(/^rgba/);
    expect(mean.hoverinfo).toBe("skip");
    const middle = mean.y.slice(50, 150) as number[];
    // Of 8 and 12 by turns: the geometric mean on a logarithmic axis, the arithmetic one on a linear.
    const average = (y: number[]): number => y.reduce((a, b) => a + b, 0) / y.length;
    expect(average(middle)).toBeCloseTo(Math.sqrt(96), 1);
    const linear = draw({ smoothing: 0.1, logY: false }).data.filter((t) => t.name === "train")[1].y.slice(50, 150) as number[];
    expect(average(linear)).toBeCloseTo(10, 1);
  });

  it("gives a further metric a panel of its own on the same steps", () => {
    expect(otherMetrics(series(), ["loss", "grad_norm", "lr", "epoch", "never"])).toEqual(["lr", "grad_norm"]);
    const { data, layout, figure } = draw({ more: ["grad_norm"] });
    const trace = data.find((t) => t.name === "grad_norm")!;
    expect(trace.yaxis).toBe("y4");
    expect(layout.yaxis4!.type).toBe("log");
    expect(layout.yaxis4!.domain[0]).toBe(0);
    expect(figure.height).toBeGreaterThan(draw({}).figure.height);
  });

  it("saves what is seen: the window, names that no spreadsheet runs", () => {
    const { figure } = draw({});
    const rows = csv(figure, [10, 12], () => '=cmd("x"),y').trim().split("\n");
    expect(rows).toEqual(["model,metric,step,time,value", ...[10, 11, 12].map((i) => `"'=cmd(""x""),y",loss,${i},${1000 + i / 2},${i % 2 === 0 ? 12 : 8}`)]);
    expect(fileName("../a <b> run: 1", "png")).toBe("a-b-run-1.png");
    expect(fileName("...", "csv")).toBe("training.csv");
  });
});

describe("horizontal axis", () => {
  it("has more than one label in the side panel and on a phone, and room for the long ones", () => {
    const labels = (kind: "step" | "time", high: number): unknown => new XAxis(new SeriesStore(), 0, kind, false).layout([1, high], 260).ticktext;
    expect(labels("step", 1650)).toEqual(["500", "1k", "1.5k"]);
    expect(labels("step", 9000)).toEqual(["2k", "4k", "6k", "8k"]);
    expect(labels("time", 9000)).toEqual(["1h 00m", "2h 00m"]);
  });
});
