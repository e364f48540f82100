/** Curves, non-finite values and events as Plotly traces. */

import { clip, minMax, type Placed } from "./decimate";
import type { Curve } from "./series";
import type { Theme } from "./theme";
import type { Mark } from "./wire";
import type { XAxis } from "./x-axis";

export interface LineStyle {
  color: string;
  dash: "solid" | "dash" | "dot";
  width: number;
  /** `y`, `y2`, `y4`... */
  axis: string;
  fill: boolean;
}

/** Plotly reads a few tags and entities in names and hover texts: user text is shown as it is. */
export function plain(text: string): string {
  return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** What is drawn of a curve: the window, thinned to at most `limit` points. */
export function drawn(points: Placed, range: [number, number] | null, limit: number, axis: XAxis): Placed {
  const inside = range === null ? points : clip(points, range[0], range[1], points.x);
  return minMax(inside, Math.floor(limit / 2) - 1, axis.log ? inside.x.map(Math.log) : inside.x);
}

export function lineTrace(name: string, points: Placed, curve: Curve, style: LineStyle): object {
  const { x, y } = broken(points, curve);
  // Few points (validation every so many steps) are measurements, not a stream: show each.
  const sparse = points.step.length <= 40;
  return {
    type: "scatter",
    mode: sparse ? "lines+markers" : "lines",
    name: plain(name),
    x,
    y,
    yaxis: style.axis,
    line: { color: style.color, width: style.width, dash: style.dash === "dash" ? "7px,3px" : style.dash === "dot" ? "2px,2px" : "solid", simplify: false },
    marker: { size: points.step.length === 1 ? 7 : 4, color: style.color },
    ...(style.fill ? { fill: "tozeroy", fillcolor: alpha(style.color, 0.13) } : {}),
    hovertemplate: style.axis === "y2" ? "%{y:.1f}%" : "%{y:.4~g}",
    connectgaps: false,
  };
}

/** The raw curve, faint, and its running mean; the values under the pointer are the raw ones. */
export function smoothTraces(name: string, raw: Placed, smooth: Placed, curve: Curve, style: LineStyle): object[] {
  const back = lineTrace(name, raw, curve, { ...style, color: alpha(style.color, 0.32), dash: "solid", width: 1, fill: false });
  const front = lineTrace(name, smooth, curve, { ...style, width: 1.8, fill: false });
  return [back, { ...front, hoverinfo: "skip", hovertemplate: undefined }];
}

/** A line may not pass over a step whose value was not a number. */
function broken(points: Placed, curve: Curve): { x: number[]; y: (number | null)[] } {
  if (curve.bad.length === 0) return { x: points.x, y: points.value };
  const x: number[] = [];
  const y: (number | null)[] = [];
  let b = 0;
  for (let i = 0; i < points.seq.length; i++) {
    for (let first = true; b < curve.bad.length && curve.bad[b].seq < points.seq[i]; b++, first = false) {
      if (!first || i === 0) continue;
      x.push((points.x[i - 1] + points.x[i]) / 2);
      y.push(null);
    }
    x.push(points.x[i]);
    y.push(points.value[i]);
  }
  return { x, y };
}

/** Crosses at the bottom of the loss axis, where no value could be drawn. */
export function badTrace(name: string, curve: Curve, color: string, model: number, axis: XAxis): object {
  const bad = curve.bad.map((p) => ({ ...p, x: axis.at(model, p.step, p.time) })).filter((p) => !Number.isNaN(p.x));
  return {
    type: "scatter",
    mode: "markers",
    name: plain(name),
    x: bad.map((p) => p.x),
    y: bad.map(() => 0.04),
    yaxis: "y3",
    text: bad.map((p) => p.what),
    marker: { symbol: "x-thin", size: 7, line: { width: 1.6, color } },
    hovertemplate: "%{text}",
    cliponaxis: false,
  };
}

interface MarkLook {
  symbol: string;
  color: (theme: Theme) => string;
  label: string;
}

const LOOKS: Record<string, MarkLook | undefined> = {
  checkpoint_saved: { symbol: "diamond", color: (t) => t.muted, label: "checkpoint" },
  recovery: { symbol: "triangle-up", color: (t) => t.warn, label: "recovery" },
  alert: { symbol: "triangle-down", color: (t) => t.error, label: "alert" },
  paused: { symbol: "square", color: (t) => t.muted, label: "paused" },
  resumed: { symbol: "triangle-right", color: (t) => t.muted, label: "resumed" },
  training_failed: { symbol: "x", color: (t) => t.error, label: "failed" },
  training_stopped: { symbol: "square", color: (t) => t.error, label: "stopped" },
};

/** Lines of one kind beyond this would hide the curves; their symbols stay. */
const LINES_PER_KIND = 24;
/** Checkpoints come at regular steps: their lines would look like a grid. */
const CHECKPOINT_LINES = 6;

export function markTrace(marks: Mark[], theme: Theme, axis: XAxis): { trace: object | null; shapes: object[] } {
  const known = marks
    .filter((m) => LOOKS[m.event] !== undefined)
    .map((m) => ({ ...m, x: axis.mark(m) }))
    .filter((m): m is Mark & { x: number } => m.x !== null);
  if (known.length === 0) return { trace: null, shapes: [] };
  const counts = new Map<string, number>();
  for (const mark of known) counts.set(mark.event, (counts.get(mark.event) ?? 0) + 1);
  const looks = known.map((m) => LOOKS[m.event]!);
  const shapes = known
    .map((mark, i) => ({ mark, color: looks[i].color(theme) }))
    .filter(({ mark }) => counts.get(mark.event)! <= (mark.event === "checkpoint_saved" ? CHECKPOINT_LINES : LINES_PER_KIND))
    // Several models save at the same step: one line, not three on top of each other.
    .filter(({ mark }, i, all) => all.findIndex((o) => o.mark.x === mark.x && o.mark.event === mark.event) === i)
    .map(({ mark, color }) => verticalLine(mark.x, color, mark.event === "checkpoint_saved" ? 0.28 : 0.6));
  const trace = {
    type: "scatter",
    mode: "markers",
    name: "event",
    x: known.map((m) => m.x),
    y: known.map(() => 1),
    yaxis: "y3",
    text: known.map((m, i) => plain(describe(m, looks[i].label))),
    marker: { symbol: looks.map((l) => l.symbol), color: looks.map((l) => l.color(theme)), size: 7, line: { width: 0 } },
    hovertemplate: "%{text}",
    cliponaxis: false,
  };
  return { trace, shapes };
}

function describe(mark: Mark, label: string): string {
  const detail = mark.data.message ?? mark.data.error ?? mark.data.kind;
  const model = mark.model === null ? "" : ` (model ${mark.model + 1})`;
  const text = typeof detail === "string" ? `${label}${model}: ${detail}` : `${label}${model}`;
  return text.length > 90 ? `${text.slice(0, 89)}\u2026` : text;
}

export function verticalLine(x: number, color: string, opacity: number, dash = "solid"): object {
  return {
    type: "line",
    xref: "x",
    yref: "paper",
    x0: x,
    x1: x,
    y0: 0,
    y1: 1,
    layer: "below",
    opacity,
    line: { color, width: 1, dash },
  };
}

export function alpha(hex: string, opacity: number): string {
  const n = parseInt(hex.slice(1), 16);
  return `rgba(${n >> 16}, ${(n >> 8) & 255}, ${n & 255}, ${opacity})`;
}
