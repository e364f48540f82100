/** A small curve for each further metric; pressed, it has a panel of its own in the chart. */

import { minMax } from "./decimate";
import { h, setAttributes, setText, show, svg } from "./dom";
import { hue } from "./figure";
import { compact, megabytes, value } from "./format";
import { otherMetrics } from "./metrics-shown";
import type { SeriesStore } from "./series";
import type { Theme } from "./theme";
import type { NonFinite, SessionStatus } from "./wire";

/** More would be a wall; the rest is in the file that the chart saves. */
const MOST = 8;
const WIDTH = 96;
const HEIGHT = 22;

interface Mini {
  node: HTMLButtonElement;
  number: HTMLElement;
  lines: SVGElement;
}

export class Minis {
  readonly node = h("div", "forge-minis", { role: "group", "aria-label": "Further metrics" });
  private readonly minis = new Map<string, Mini>();

  constructor(private readonly toggled: (metric: string) => void) {}

  update(status: SessionStatus, series: SeriesStore, theme: Theme, open: readonly string[], hidden: ReadonlySet<string>): void {
    const metrics = otherMetrics(series, status.metricNames).slice(0, MOST);
    show(this.node, metrics.length > 0);
    for (const [name, mini] of this.minis) {
      if (metrics.includes(name)) continue;
      mini.node.remove();
      this.minis.delete(name);
    }
    const models = series.models().filter((m) => !hidden.has(`model:${m}`));
    metrics.forEach((metric, i) => {
      const mini = this.mini(metric);
      if (this.node.children[i] !== mini.node) this.node.insertBefore(mini.node, this.node.children[i] ?? null);
      const last = status.metrics?.extra[metric];
      const bad = status.metrics?.nonFinite?.[metric];
      setText(mini.number, reading(metric, typeof last === "number" ? last : null, bad));
      setAttributes(mini.node, { "aria-pressed": open.includes(metric) ? "true" : "false" });
      const paths = sketch(series, models, metric);
      while (mini.lines.children.length > paths.length) mini.lines.lastChild?.remove();
      while (mini.lines.children.length < paths.length) mini.lines.append(svg("path", { fill: "none", "stroke-width": 1.4, "stroke-linejoin": "round", "vector-effect": "non-scaling-stroke" }));
      paths.forEach(([model, d], at) => setAttributes(mini.lines.children[at], { d, stroke: hue(theme, status.totalModels > 1 ? model : 5) }));
    });
  }

  private mini(metric: string): Mini {
    let mini = this.minis.get(metric);
    if (mini === undefined) {
      const number = h("span", "forge-mini-value");
      const lines = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, preserveAspectRatio: "none", "aria-hidden": "true" });
      const node = h("button", "forge-mini", { type: "button", "aria-pressed": "false", title: `${metric}: show or hide its panel` }, h("span", "forge-mini-name", {}, label(metric)), number);
      node.append(lines);
      node.addEventListener("click", () => this.toggled(metric));
      mini = { node, number, lines };
      this.minis.set(metric, mini);
    }
    return mini;
  }
}

/** What the unit in a name says is said beside the number. */
function label(metric: string): string {
  return metric.replace(/^(.*memory)_mb$/, "$1").replace("gpu_memory", "GPU memory");
}

function reading(metric: string, last: number | null, bad: NonFinite | undefined): string {
  if (bad === undefined && metric.endsWith("memory_mb")) return megabytes(last);
  return last !== null && last >= 1000 ? compact(last) : value(last, bad);
}

/** One path for each model, over the common range of all. */
export function sketch(series: SeriesStore, models: number[], metric: string): [number, string][] {
  const curves = models.map((m) => [m, series.curve(m, metric)?.points] as const).filter(([, p]) => p !== undefined && p.step.length > 1);
  let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const [, p] of curves) {
    for (let i = 0; i < p!.step.length; i++) {
      x0 = Math.min(x0, p!.step[i]);
      x1 = Math.max(x1, p!.step[i]);
      y0 = Math.min(y0, p!.value[i]);
      y1 = Math.max(y1, p!.value[i]);
    }
  }
  const across = WIDTH / (x1 - x0 || 1);
  const up = (HEIGHT - 4) / (y1 - y0 || 1);
  return curves.map(([model, points]) => {
    const thin = minMax(points!, 30);
    const d = thin.step.map((s, i) => `${i === 0 ? "M" : "L"}${((s - x0) * across).toFixed(1)} ${(HEIGHT - 2 - (thin.value[i] - y0) * up).toFixed(1)}`).join("");
    return [model, d];
  });
}
