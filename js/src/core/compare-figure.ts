/** One metric of several sessions on one chart. Pure: no page, no Plotly. */

import { lossAxis } from "./axis";
import { DRAWN_POINTS, figureHeight, frame, hue, xLook, yLook, type Figure, type Line } from "./figure";
import { shownMetrics } from "./metrics-shown";
import type { SessionClient } from "./session-client";
import { smoothed } from "./smooth";
import type { Theme } from "./theme";
import { drawn, lineTrace, smoothTraces, type LineStyle } from "./traces";
import { XAxis, type XKind } from "./x-axis";

export interface CompareView {
  clients: readonly SessionClient[];
  hidden: ReadonlySet<string>;
  metric: string;
  x: XKind;
  logY: boolean;
  smoothing: number;
  zoom: [number, number] | null;
  theme: Theme;
  width: number;
}

/** Six hues, and a second cue when they come round again. */
export function sessionStyle(theme: Theme, index: number): { color: string; dash: LineStyle["dash"] } {
  return { color: hue(theme, index), dash: (["solid", "dash", "dot"] as const)[Math.floor(index / theme.hues.length) % 3] };
}

/** Metrics that at least one of the sessions has; the loss first. */
export function commonMetrics(clients: readonly SessionClient[]): string[] {
  const names = new Map<string, number>();
  const first = new Set<string>();
  for (const client of clients) {
    for (const name of client.status?.metricNames ?? []) names.set(name, (names.get(name) ?? 0) + 1);
    for (const { metric } of shownMetrics(client.series, client.status?.metricNames ?? [])) first.add(metric);
  }
  const rank = (name: string): number => (name === "loss" ? 0 : name === "val_loss" ? 1 : first.has(name) ? 2 : 3);
  return [...names.keys()].filter((name) => name !== "epoch").sort((a, b) => rank(a) - rank(b) || names.get(b)! - names.get(a)!);
}

export function buildComparison(view: CompareView): Figure {
  const { clients, metric, theme, zoom } = view;
  const data: object[] = [];
  const lines: Line[] = [];
  const values: number[] = [];
  let [low, high] = [Infinity, -Infinity];
  let axis = new XAxis(clients[0].series, clients[0].status?.startTime ?? 0, view.x, false);
  clients.forEach((client, index) => {
    if (client.status === null || view.hidden.has(client.sessionId)) return;
    // Each counts from its own beginning, whatever the day it ran on.
    axis = new XAxis(client.series, client.status.startTime, view.x, false);
    for (const model of client.series.models()) {
      const curve = client.series.curve(model, metric);
      if (curve === undefined || curve.points.step.length === 0) continue;
      const placed = axis.place(curve.points, model);
      const points = drawn(placed, zoom, DRAWN_POINTS / 2, axis);
      if (points.x.length === 0) continue;
      points.x.forEach((x, i) => {
        low = Math.min(low, x);
        high = Math.max(high, x);
        if (zoom === null || (x >= zoom[0] && x <= zoom[1])) values.push(points.value[i]);
      });
      const models = client.status.totalModels > 1 ? `, model ${model + 1}` : "";
      const style = { ...sessionStyle(theme, index), width: 1.6, axis: "y", fill: false };
      const smooth = smoothed(placed, view.smoothing, view.logY);
      const name = `${client.status.name}${models}`;
      if (smooth === null) data.push(lineTrace(name, points, curve, style));
      else data.push(...smoothTraces(name, points, drawn(smooth, zoom, DRAWN_POINTS / 2, axis), curve, style));
      lines.push({ model: index, metric, points });
    }
  });
  const range: [number, number] = zoom ?? (low < high ? [low, high] : [0, 1]);
  const y = lossAxis(values, view.logY);
  const height = figureHeight(false) + 60;
  const layout = {
    ...frame(theme, view.width, height),
    uirevision: [metric, view.x, ...(zoom ?? [])].join(),
    dragmode: "zoom",
    xaxis: { ...axis.layout(range, view.width), ...xLook(theme) },
    yaxis: yLook(theme, y),
  };
  const titles = [{ text: `${metric}${y.type === "log" ? " (log)" : ""}`, y: 1 }];
  return { data, layout, height, shown: [], lines, axis, smooth: view.smoothing > 0, titles };
}
