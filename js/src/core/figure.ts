/** The whole figure of a session: what Plotly.react is given. Pure: no page, no Plotly. */

import { lossAxis, quantityAxis, type Axis } from "./axis";
import { clip, type Placed, type Points } from "./decimate";
import { shownMetrics, toPercent, type Shown } from "./metrics-shown";
import type { Curve, SeriesStore } from "./series";
import { SEVERAL, smoothed } from "./smooth";
import type { Theme } from "./theme";
import { badTrace, drawn, lineTrace, markTrace, plain, smoothTraces, verticalLine } from "./traces";
import type { SessionStatus } from "./wire";
import { XAxis, type XKind } from "./x-axis";

/** More points than this per trace cost more than a display frame (measured: 800 to 1,000 take 14 ms). */
export const DRAWN_POINTS = 800;
/** With many curves the sum is bounded too. */
const DRAWN_IN_ALL = 6400;

export interface ChartOptions {
  /** Window of the running mean as a share of the points; null: only where several models need it. */
  smoothing: number | null;
  x: XKind;
  logX: boolean;
  logY: boolean;
  /** Further metrics, each in a panel of its own. */
  more: readonly string[];
}

export const DEFAULT_OPTIONS: ChartOptions = { smoothing: null, x: "step", logX: false, logY: true, more: [] };

export interface View {
  status: SessionStatus;
  series: SeriesStore;
  /** Keys `model:<index>` and `kind:<kind>` that the legend has switched off. */
  hidden: ReadonlySet<string>;
  options: ChartOptions;
  /** In units of the horizontal axis. */
  zoom: [number, number] | null;
  /** Points of the zoomed window at full detail, when they have arrived. */
  detail: SeriesStore | null;
  theme: Theme;
  width: number;
  /** A finger scrolls the page instead of drawing a zoom box. */
  touch: boolean;
}

/** One curve as it is seen, for the export. */
export interface Line {
  model: number;
  metric: string;
  points: Placed;
}

export interface Figure {
  data: object[];
  layout: Record<string, unknown>;
  height: number;
  shown: Shown[];
  lines: Line[];
  axis: XAxis;
  /** Some curve is drawn as its running mean. */
  smooth: boolean;
  /** Of the panels, from top to bottom. */
  titles: Title[];
}

/** Drawn by the page over the chart: Plotly lays out and measures an annotation at each redraw. */
export interface Title {
  text: string;
  /** Where its panel begins, as a share of the plot's height from below. */
  y: number;
}

const LOSS_HEIGHT = 206;
const GROK_HEIGHT = 96;
const MORE_HEIGHT = 72;
const GAP = 30;
const TOP = 22;
const BOTTOM = 24;

export function figureHeight(hasGrok: boolean, more = 0): number {
  return TOP + LOSS_HEIGHT + BOTTOM + (hasGrok ? GAP + GROK_HEIGHT : 0) + more * (GAP + MORE_HEIGHT);
}

/** Everything that is drawn of one curve, and what it adds to its panel's range. */
class Drawing {
  readonly data: object[] = [];
  readonly crosses: object[] = [];
  readonly lines: Line[] = [];
  readonly values = new Map<string, number[]>();
  smooth = false;
  private readonly several: boolean;

  constructor(
    private readonly view: View,
    readonly axis: XAxis,
    private readonly limit: number,
  ) {
    this.several = view.status.totalModels > 1;
  }

  add(model: number, kind: Shown, ref: string): void {
    const { view, axis } = this;
    const curve = view.series.curve(model, kind.metric);
    if (curve === undefined) return;
    const color = this.color(model, kind);
    const percent = kind.panel === "grok";
    let source = axis.place(withDetail(curve.points, view, model, kind.metric), model);
    if (percent) source = { ...source, value: source.value.map(toPercent) };
    const points = drawn(source, view.zoom, this.limit, axis);
    const name = this.several ? `${modelName(view.status, model)}, ${kind.label}` : kind.label;
    this.note(ref, view.zoom === null ? points : clip(points, ...view.zoom, points.x));
    if (points.x.length > 0) {
      this.lines.push({ model, metric: kind.metric, points });
      const style = { color, dash: kind.dash, width: kind.kind === "val" ? 2 : 1.6, axis: ref, fill: kind.kind === "rank" && !this.several };
      const smooth = smoothed(source, this.share(kind), view.options.logY && ref === "y");
      if (smooth === null) this.data.push(lineTrace(name, points, curve, style));
      else this.data.push(...smoothTraces(name, points, drawn(smooth, view.zoom, this.limit, axis), curve, style));
      this.smooth ||= smooth !== null;
    }
    if (ref === "y" && curve.bad.length > 0) this.crosses.push(badTrace(name, curve, color, model, axis));
  }

  /** The reach of all that was added, also of what has no finite value. */
  range(models: number[]): [number, number] {
    let low = Infinity;
    let high = -Infinity;
    const reach = (x: number): void => {
      if (Number.isNaN(x) || (this.axis.log && x <= 0)) return;
      if (x < low) low = x;
      if (x > high) high = x;
    };
    for (const { points } of this.lines) points.x.forEach(reach);
    for (const model of models) {
      for (const metric of ["loss", "val_loss"]) {
        this.view.series.curve(model, metric)?.bad.forEach((p) => reach(this.axis.at(model, p.step, p.time)));
      }
    }
    if (!(low <= high)) return this.axis.log ? [1, 10] : [0, 1];
    if (low < high) return [low, high];
    return this.axis.log ? [low / 2, high * 2] : [low - 1, high + 1];
  }

  private color(model: number, kind: Shown): string {
    if (this.several) return hue(this.view.theme, model);
    if (kind.panel === "more") return hue(this.view.theme, 5);
    return hue(this.view.theme, kind.kind === "rank" ? 2 : kind.dash === "dash" ? 1 : 0);
  }

  private share(kind: Shown): number {
    if (kind.panel === "grok") return 0;
    const { smoothing } = this.view.options;
    if (smoothing !== null) return smoothing;
    // Several noisy curves hide each other.
    return this.several && kind.kind === "train" ? SEVERAL : 0;
  }

  private note(ref: string, points: Placed): void {
    const values = this.values.get(ref) ?? [];
    // Appended one by one: spread arguments overflow the stack on long curves.
    for (const v of points.value) values.push(v);
    this.values.set(ref, values);
  }
}

export function buildFigure(view: View): Figure {
  const { series, status, theme, options } = view;
  const shown = shownMetrics(series, status.metricNames);
  const more = options.more.filter((metric) => series.has(metric));
  const all = [...shown, ...more.map((metric): Shown => ({ kind: "more", metric, panel: "more", label: metric, dash: "solid" }))];
  const visible = all.filter((s) => !view.hidden.has(`kind:${s.kind}`));
  const models = series.models().filter((m) => !view.hidden.has(`model:${m}`));
  const hasGrok = shown.some((s) => s.panel === "grok");
  const limit = Math.min(DRAWN_POINTS, Math.max(120, Math.floor(DRAWN_IN_ALL / Math.max(1, models.length * visible.length))));
  const axis = new XAxis(series, status.startTime, options.x, options.logX);

  const drawing = new Drawing(view, axis, limit);
  const refOf = (s: Shown): string => (s.panel === "loss" ? "y" : s.panel === "grok" ? "y2" : `y${4 + more.indexOf(s.metric)}`);
  for (const model of models) for (const kind of visible) drawing.add(model, kind, refOf(kind));

  // The onset has a line of its own, and is no trouble.
  const marks = markTrace(status.marks.filter((m) => (m.model === null || !view.hidden.has(`model:${m.model}`)) && m.data.kind !== "grokking"), theme, axis);
  const data = [...drawing.data, ...drawing.crosses];
  if (marks.trace !== null) data.push(marks.trace);

  const height = figureHeight(hasGrok, more.length);
  const xRange = view.zoom ?? withRoom(drawing.range(models), status, options.logX);
  const onset = onsetMarks(view, models, axis);
  const lossY = lossAxis(drawing.values.get("y") ?? [], options.logY);
  const panels = stack(height, hasGrok, more);
  const quantities = more.map((_, i) => quantityAxis(drawing.values.get(`y${4 + i}`) ?? []));
  const layout = {
    ...frame(view.theme, view.width, height),
    uirevision: [options.x, options.logX, ...(view.zoom ?? [])].join(),
    dragmode: view.touch ? false : "zoom",
    xaxis: { ...axis.layout(xRange, view.width), ...xLook(theme), anchor: panels[panels.length - 1].ref },
    yaxis: { ...yLook(theme, lossY), domain: panels[0].domain },
    yaxis3: { overlaying: "y", range: [0, 1], visible: false, fixedrange: true },
    ...(hasGrok ? { yaxis2: { ...yLook(theme, PERCENT), domain: panels[1].domain } } : {}),
    ...Object.fromEntries(quantities.map((q, i) => [`yaxis${4 + i}`, { ...yLook(theme, q), domain: panels[panels.length - more.length + i].domain }])),
    shapes: [...marks.shapes, ...onset.shapes],
    annotations: onset.annotations,
  };
  const titles = [
    { text: shown.some((s) => s.metric.includes("loss")) ? `loss${lossY.type === "log" ? " (log)" : ""}` : axisName(shown, lossY.type), y: 1 },
    ...(hasGrok ? [{ text: grokName(shown), y: panels[1].domain[1] }] : []),
    ...more.map((metric, i) => ({ text: `${metric}${quantities[i].type === "log" ? " (log)" : ""}`, y: panels[panels.length - more.length + i].domain[1] })),
  ];
  return { data, layout, height, shown, lines: drawing.lines, axis, smooth: drawing.smooth, titles };
}

const PERCENT: Axis = { type: "linear", range: [-2, 104], tickvals: [0, 50, 100], ticktext: ["0", "50", "100"] };

interface Panel {
  ref: string;
  domain: [number, number];
}

/** The panels from top to bottom, as shares of the plot's height. */
function stack(height: number, hasGrok: boolean, more: readonly string[]): Panel[] {
  const plot = height - TOP - BOTTOM;
  const sizes: [string, number][] = [["y", LOSS_HEIGHT]];
  if (hasGrok) sizes.push(["y2", GROK_HEIGHT]);
  more.forEach((_, i) => sizes.push([`y${4 + i}`, MORE_HEIGHT]));
  let top = plot;
  return sizes.map(([ref, size]) => {
    const domain: [number, number] = [Math.max(0, (top - size) / plot), top / plot];
    top -= size + GAP;
    return { ref, domain };
  });
}

/** What every figure of ours looks like. */
export function frame(theme: Theme, width: number, height: number): Record<string, unknown> {
  return {
    width,
    height,
    margin: { l: 42, r: 14, t: TOP, b: BOTTOM },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: theme.font, size: 11, color: theme.muted },
    showlegend: false,
    hovermode: "x unified",
    hoversubplots: "axis",
    hoverdistance: 24,
    hoverlabel: { bgcolor: theme.surface, bordercolor: theme.grid, font: { family: theme.font, size: 11, color: theme.text }, namelength: 32 },
  };
}

export function xLook(theme: Theme): Record<string, unknown> {
  return {
    gridcolor: theme.grid,
    showgrid: false,
    zeroline: false,
    showline: true,
    linecolor: theme.grid,
    ticks: "outside",
    ticklen: 3,
    tickcolor: theme.grid,
    showspikes: true,
    spikemode: "across",
    spikethickness: 1,
    spikedash: "solid",
    spikecolor: theme.muted,
  };
}

export function yLook(theme: Theme, axis: Axis): Record<string, unknown> {
  // Plotly measures every label at each redraw to see whether it fits; these do.
  return { ...axis, nticks: 4, tickmode: "array", ticklabeloverflow: "allow", gridcolor: theme.grid, zeroline: false, fixedrange: true };
}

export function hue(theme: Theme, index: number): string {
  return theme.hues[index % theme.hues.length];
}

export function modelName(status: SessionStatus, index: number): string {
  return status.models.find((m) => m.index === index)?.name ?? `model ${index + 1}`;
}

function withDetail(points: Points, view: View, model: number, metric: string): Points {
  const detail: Curve | undefined = view.zoom === null ? undefined : view.detail?.curve(model, metric);
  if (detail === undefined || detail.points.seq.length === 0) return points;
  const from = detail.points.seq[0];
  const to = detail.points.seq[detail.points.seq.length - 1];
  const before = points.seq.findIndex((s) => s >= from);
  const after = points.seq.findIndex((s) => s > to);
  const join = (key: keyof Points): number[] => [
    ...points[key].slice(0, before < 0 ? points.seq.length : before),
    ...detail.points[key],
    ...(after < 0 ? [] : points[key].slice(after)),
  ];
  return { seq: join("seq"), step: join("step"), time: join("time"), value: join("value") };
}

function onsetMarks(view: View, models: number[], axis: XAxis): { shapes: object[]; annotations: object[] } {
  const several = view.status.totalModels > 1;
  const shapes: object[] = [];
  const annotations: object[] = [];
  for (const model of view.status.models) {
    if (model.grokOnsetStep === null || !models.includes(model.index)) continue;
    const x = axis.step(model.index, model.grokOnsetStep, view.series.curve(model.index, "val_loss")?.points);
    if (x === null) continue;
    const color = several ? hue(view.theme, model.index) : view.theme.muted;
    shapes.push(verticalLine(x, color, 0.9, "dot"));
    // One label is enough; with several models the colour of the line says whose it is.
    if (annotations.length > 0) continue;
    // Plotly wants annotations on a log axis in exponents, shapes in data units.
    annotations.push({ x: axis.log ? Math.log10(x) : x, y: 1, yref: "paper", yanchor: "bottom", yshift: 4, xanchor: "center", text: "grokking", showarrow: false, font: { size: 11, color: view.theme.muted } });
  }
  return { shapes, annotations };
}

/** Seconds that a growing curve has room for, so that it can be moved before the axes must be drawn anew. */
const ROOM_S = 2;

export function withRoom([low, high]: [number, number], { status, metrics }: SessionStatus, log = false): [number, number] {
  if (status !== "running" || log) return [low, high];
  return [low, high + (high - low) * Math.min(0.1, ROOM_S / (metrics?.trainingTime ?? 0))];
}

/** Pixels from the top of the chart to the top of the panel. */
export function titleTop(title: Title, height: number): number {
  return TOP + (1 - title.y) * (height - TOP - BOTTOM);
}

/** A title in a picture, which has no page around it. */
export function annotation({ text, y }: Title, surface: string): object {
  return { x: 0, xref: "paper", xanchor: "left", xshift: -42, y, yref: "paper", yanchor: "bottom", yshift: 3, text: plain(text), showarrow: false, bgcolor: surface };
}

function axisName(shown: Shown[], type: string): string {
  const label = shown.find((s) => s.panel === "loss")?.label ?? "";
  return type === "log" && label !== "" ? `${label} (log)` : label;
}

function grokName(shown: Shown[]): string {
  const accuracy = shown.some((s) => s.kind === "accuracy");
  const rank = shown.some((s) => s.kind === "rank");
  return accuracy && rank ? "accuracy and rank progress, %" : accuracy ? "accuracy, %" : "rank progress, %";
}
