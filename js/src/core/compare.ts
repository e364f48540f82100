/** Up to ten sessions on one chart, live. Used by the panel, as a tab, and by the page. */

import { differing } from "./card-config";
import { Chart } from "./chart";
import { buildComparison, commonMetrics, sessionStyle } from "./compare-figure";
import { h, setAttributes, setText, show, svg } from "./dom";
import { csv, fileName, saveText } from "./export";
import type { Figure } from "./figure";
import { loss, value } from "./format";
import { sharedLadder } from "./ladder";
import { loadPlotly } from "./plotly-loader";
import { SessionClient } from "./session-client";
import { WIDEST } from "./smooth";
import { readTheme, watchTheme, type Theme } from "./theme";
import type { XKind } from "./x-axis";

/** More lines than this cannot be told apart. */
export const MOST_COMPARED = 10;
/** Settings that differ, beside a name; all of them are in its tooltip. */
const MOST_SETTINGS = 4;
const DASH = { solid: "", dash: "6 3", dot: "2 2" };

export class Comparison {
  readonly node = h("section", "jp-ForgeCard jp-ForgeCompare", { role: "group", "aria-label": "Comparison of sessions" });
  private readonly clients: SessionClient[];
  private readonly metric = h("select", "forge-select", { "aria-label": "Metric" });
  private readonly axis = h("select", "forge-select", { "aria-label": "Horizontal axis" });
  private readonly smoothing = h("input", "", { type: "range", min: 0, max: 100, step: 5, value: 0, "aria-label": "Smoothing" });
  private readonly logY = h("button", "forge-button forge-toggle", { type: "button", "aria-pressed": "true" }, "log y");
  private readonly file = h("button", "forge-button", { type: "button" }, "CSV");
  private readonly reset = h("button", "forge-button forge-reset", { type: "button" }, "Reset zoom");
  private readonly legend = h("div", "forge-legend", { role: "group", "aria-label": "Sessions" });
  private readonly hidden = new Set<string>();
  private readonly chart: Chart;
  private readonly undo: (() => void)[] = [];
  private configs: (Record<string, unknown> | null)[] = [];
  private settings: string[][] = [];
  private figure: Figure | null = null;
  private zoom: [number, number] | null = null;
  private theme: Theme;

  constructor(baseUrl: string, ids: readonly string[]) {
    this.clients = ids.slice(0, MOST_COMPARED).map((id) => new SessionClient(id));
    this.theme = readTheme(this.node);
    this.chart = new Chart(() => loadPlotly(baseUrl), (width) => this.build(width), (range) => this.zoomTo(range), (figure) => (this.figure = figure));
    this.axis.append(...(["step", "time", "epoch"] as const).map((x) => h("option", "", { value: x }, x)));
    const tools = h("div", "forge-tools", { role: "group", "aria-label": "Chart" }, this.metric, h("label", "forge-tool", {}, "x", this.axis), h("label", "forge-tool", {}, "smooth", this.smoothing), this.logY, this.file);
    this.chart.node.append(this.reset);
    show(this.reset, false);
    this.node.append(h("div", "forge-card-in", {}, h("h2", "forge-name", {}, `${this.clients.length} sessions compared`), tools, this.chart.node, this.legend));
    for (const control of [this.metric, this.axis, this.smoothing]) control.addEventListener("input", () => this.changed());
    this.logY.addEventListener("click", () => {
      setAttributes(this.logY, { "aria-pressed": this.log ? "false" : "true" });
      this.changed();
    });
    this.reset.addEventListener("click", () => this.zoomTo(null));
    this.file.addEventListener("click", () => {
      if (this.figure !== null) saveText(fileName(`compared ${this.metric.value}`, "csv"), csv(this.figure, this.zoom, (i) => this.clients[i].status?.name ?? this.clients[i].sessionId), "text/csv");
    });
    const ladder = sharedLadder(baseUrl);
    for (const client of this.clients) {
      client.onChange(() => this.refresh());
      client.attach(ladder);
    }
    this.undo.push(watchTheme(() => setTimeout(() => this.retheme(), 60)));
    this.refresh();
  }

  get ids(): string[] {
    return this.clients.map((client) => client.sessionId);
  }

  /** Once the node is on the page: only then are its style variables known. */
  retheme(): void {
    this.theme = readTheme(this.node);
    this.refresh();
  }

  dispose(): void {
    this.undo.forEach((undo) => undo());
    this.chart.dispose();
    this.clients.forEach((client) => client.dispose());
    this.node.remove();
  }

  private get log(): boolean {
    return this.logY.getAttribute("aria-pressed") === "true";
  }

  private changed(): void {
    this.zoomTo(null);
  }

  private zoomTo(range: [number, number] | null): void {
    this.zoom = range;
    show(this.reset, range !== null);
    this.refresh();
  }

  private refresh(): void {
    const metrics = commonMetrics(this.clients);
    if (this.metric.options.length !== metrics.length) {
      const chosen = this.metric.value;
      this.metric.replaceChildren(...metrics.map((name) => h("option", "", { value: name }, name)));
      if (metrics.includes(chosen)) this.metric.value = chosen;
    }
    this.paintLegend();
    this.chart.draw();
  }

  private build(width: number): Figure | null {
    if (this.metric.value === "") return null;
    return buildComparison({
      clients: this.clients,
      hidden: this.hidden,
      metric: this.metric.value,
      x: this.axis.value as XKind,
      logY: this.log,
      smoothing: WIDEST * (Number(this.smoothing.value) / 100) ** 2,
      zoom: this.zoom,
      theme: this.theme,
      width,
    });
  }

  private paintLegend(): void {
    const configs = this.clients.map((client) => client.status?.config ?? null);
    if (configs.some((config, i) => config !== this.configs[i])) this.settings = differing(configs);
    this.configs = configs;
    this.clients.forEach((client, i) => {
      const { color, dash } = sessionStyle(this.theme, i);
      const item = this.item(i, DASH[dash], client.sessionId);
      item.style.color = color;
      const metrics = client.status?.metrics;
      const name = this.metric.value;
      const last = name === "loss" ? metrics?.loss : metrics?.extra[name];
      setText(item.children[1], client.missing ? `${client.sessionId} is gone` : (client.status?.name ?? client.sessionId));
      setText(item.children[2], typeof last !== "number" ? "" : name === "loss" ? loss(last) : value(last));
      const own = this.settings[i] ?? [];
      setText(item.children[3], own.slice(0, MOST_SETTINGS).join(" \u00b7 "));
      const title = [client.status?.name ?? client.sessionId, ...own].join("\n");
      setAttributes(item, { "aria-pressed": this.hidden.has(client.sessionId) ? "false" : "true", title });
    });
  }

  private item(index: number, dash: string, id: string): HTMLElement {
    const known = this.legend.children[index] as HTMLElement | undefined;
    if (known !== undefined) return known;
    const line = svg("svg", { viewBox: "0 0 22 8", width: 22, height: 8, "aria-hidden": "true" }, svg("path", { d: "M1 4h20", stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": dash }));
    const item = h("button", "forge-legend-item", { type: "button" });
    item.append(line, h("span", "forge-legend-name"), h("span", "forge-legend-detail"), h("span", "forge-legend-settings"));
    item.addEventListener("click", () => {
      if (!this.hidden.delete(id)) this.hidden.add(id);
      this.refresh();
    });
    this.legend.append(item);
    return item;
  }
}
