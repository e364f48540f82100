/** The card of a session: one implementation for the cell, the panel, the tab and the page. */

import { Bars } from "./card-bars";
import { ConfigView } from "./card-config";
import { Controls, type Control } from "./card-controls";
import { KpiRow } from "./card-kpis";
import { Legend, withPartners } from "./card-legend";
import { Chart } from "./chart";
import { connectionText, stateText } from "./card-state";
import { h, setAttributes, setText, show } from "./dom";
import { ChartTools, type Format } from "./card-tools";
import { Minis } from "./card-minis";
import { csv, fileName, save, saveText } from "./export";
import { buildFigure, modelName, type ChartOptions, type Figure } from "./figure";
import { count } from "./format";
import type { PlotlyApi } from "./plotly-loader";
import { SeriesStore } from "./series";
import { isTicking, type SessionClient } from "./session-client";
import { readTheme, watchTheme, type Theme } from "./theme";
import { isEnded, type SeriesBlock, type SessionStatus } from "./wire";

/** What differs between the places a card is shown in. */
export interface CardHost {
  loadPlotly(): Promise<PlotlyApi>;
  control?: Control;
  /** Full detail of a window of steps or of unix seconds, for a zoom. */
  detail?(metrics: string[], from: number, to: number, points: number, x: "step" | "time"): Promise<SeriesBlock[]>;
}

export class Card {
  // A group, not a region: a notebook of many cards must not be all landmarks.
  readonly node = h("section", "jp-ForgeCard", { role: "group" });
  private readonly name = h("h2", "forge-name");
  private readonly sub = h("p", "forge-sub");
  private readonly state = h("span", "forge-pill forge-state", { role: "status", "aria-live": "polite" });
  private readonly link = h("span", "forge-pill forge-link");
  private readonly message = h("p", "forge-message", { role: "alert" });
  private readonly kpis = new KpiRow();
  private readonly bars = new Bars();
  private readonly config = new ConfigView();
  private readonly legend: Legend;
  private readonly controls: Controls;
  private readonly tools: ChartTools;
  private readonly minis: Minis;
  private readonly chart: Chart;
  private readonly reset = h("button", "forge-button forge-reset", { type: "button" }, "Reset zoom");
  private readonly undo: (() => void)[] = [];
  private readonly body: HTMLElement;
  private theme: Theme;
  private figure: Figure | null = null;
  private zoom: [number, number] | null = null;
  private detail: SeriesStore | null = null;
  private frame = 0;

  constructor(
    private readonly client: SessionClient,
    private readonly host: CardHost,
  ) {
    this.legend = new Legend(() => this.refresh());
    this.controls = new Controls(client, host.control);
    this.chart = new Chart(
      () => host.loadPlotly(),
      (width) => this.build(width),
      (range) => this.zoomTo(range === null || this.figure === null ? null : this.figure.axis.data(range)),
      (figure) => {
        this.figure = figure;
        this.paintLegend();
      },
    );
    this.tools = new ChartTools((old) => this.optionsChanged(old), (format) => void this.save(format));
    this.minis = new Minis((metric) => this.toggleMore(metric));
    this.chart.node.append(this.reset);
    show(this.reset, false);
    this.reset.addEventListener("click", () => this.zoomTo(null));
    this.body = h("div", "forge-body", {}, this.message, this.kpis.node, this.bars.node, this.tools.node, this.chart.node, this.legend.node, this.minis.node, h("footer", "forge-foot", {}, this.controls.node, this.config.line), this.config.details);
    this.node.append(
      h("div", "forge-card-in", {}, h("header", "forge-head", {}, h("div", "forge-titles", {}, this.name, this.sub), h("div", "forge-pills", {}, this.state, this.link)), this.body),
    );
    this.theme = readTheme(this.node);
    const timer = setInterval(() => this.paint(), 1000);
    this.undo.push(
      client.onChange(() => this.refresh()),
      watchTheme(() => setTimeout(() => this.retheme(), 60)),
      () => clearInterval(timer),
    );
    this.paint();
  }

  /** To be called once the node is on the page: only then are its style variables known. */
  retheme(): void {
    this.theme = readTheme(this.node);
    this.refresh();
  }

  dispose(): void {
    cancelAnimationFrame(this.frame);
    this.undo.forEach((undo) => undo());
    this.controls.dispose();
    this.chart.dispose();
    this.node.remove();
  }

  /** Text once per frame, the chart at its own pace: the message handler itself does nothing slow. */
  private refresh(): void {
    this.chart.draw();
    if (this.frame !== 0) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.paint();
    });
  }

  private paint(): void {
    const status = this.client.status;
    const waiting = status === null;
    show(this.body, !waiting);
    const state = this.stateText(status);
    setText(this.state, state);
    setAttributes(this.state, { "data-state": status?.status ?? "created" });
    this.paintLink(status);
    if (status === null) {
      setText(this.name, "Training session");
      setText(this.sub, this.client.missing ? `${this.client.sessionId} is not known to this server` : this.client.sessionId);
      return;
    }
    setText(this.name, status.name);
    this.node.setAttribute("aria-label", `Training session ${status.name}`);
    setText(this.sub, subtitle(status));
    const trouble = troubleText(status);
    setText(this.message, trouble);
    show(this.message, trouble !== "");
    this.kpis.update(status, this.client, Date.now());
    this.bars.update(status, this.theme);
    this.controls.update(status, this.client.missing);
    this.config.update(status);
    this.paintLegend();
  }

  private stateText(status: SessionStatus | null): string {
    if (status === null) return this.client.missing ? "Not found" : "Waiting";
    // A saved copy knows how it was, not how it is.
    return this.client.missing && !isEnded(status.status) ? `${stateText(status)} when saved` : stateText(status);
  }

  private paintLink(status: SessionStatus | null): void {
    // An ended session has nothing more to say: how it is connected is of no interest.
    const visible = status === null || !isEnded(status.status) || this.client.connection === "offline" || this.client.missing;
    show(this.link, visible);
    if (!visible) return;
    const saved = this.client.missing && status !== null;
    setText(this.link, saved ? "Saved copy" : connectionText(this.client.connection, Date.now() - this.client.heardAt));
    setAttributes(this.link, { "data-link": saved ? "saved" : this.client.connection, "data-ticking": isTicking(this.client) });
  }

  private paintLegend(): void {
    const { status, series } = this.client;
    if (status === null) return;
    const { options } = this.tools;
    this.tools.update(status.totalModels > 1, series.has("epoch"));
    this.legend.update(status, this.figure?.shown ?? [], this.theme, this.figure?.smooth === true);
    this.minis.update(status, series, this.theme, options.more, this.legend.hidden);
  }

  private build(width: number): Figure | null {
    const status = this.client.status;
    if (status === null) return null;
    return buildFigure({
      status,
      series: this.client.series,
      hidden: withPartners(this.legend.hidden),
      options: this.tools.options,
      zoom: this.zoom,
      detail: this.detail,
      theme: this.theme,
      width,
      touch: matchMedia("(pointer: coarse)").matches,
    });
  }

  private optionsChanged(old: ChartOptions): void {
    // A window of steps says nothing about hours.
    if (old.x !== this.tools.options.x) this.zoomTo(null);
    else if (this.zoom !== null && old.more.length < this.tools.options.more.length) void this.fetchDetail(this.zoom);
    this.refresh();
    this.paintLegend();
  }

  private toggleMore(metric: string): void {
    const { more } = this.tools.options;
    this.tools.set({ more: more.includes(metric) ? more.filter((m) => m !== metric) : [...more, metric] });
  }

  private async save(format: Format): Promise<void> {
    const { status } = this.client;
    if (this.figure === null || status === null) return;
    const name = fileName(status.name, format);
    if (format === "csv") {
      saveText(name, csv(this.figure, this.zoom, (m) => modelName(status, m)), "text/csv");
      return;
    }
    try {
      save(name, await this.chart.image(format, this.theme));
    } catch (error) {
      this.controls.say(`the picture could not be made: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  private zoomTo(range: [number, number] | null): void {
    this.zoom = range;
    this.detail = null;
    show(this.reset, range !== null);
    this.refresh();
    if (range !== null) void this.fetchDetail(range);
  }

  /** The window in what the server knows: steps or unix seconds. Epochs are looked up among the drawn points. */
  private asked(range: [number, number]): { window: [number, number]; x: "step" | "time" } | null {
    const axis = this.figure?.axis;
    if (axis === undefined || axis.kind === "step") return { window: [Math.floor(range[0]), Math.ceil(range[1])], x: "step" };
    if (axis.kind === "time") return { window: [range[0] + axis.start, range[1] + axis.start], x: "time" };
    let low = Infinity;
    let high = -Infinity;
    for (const { points } of this.figure?.lines ?? []) {
      points.x.forEach((x, i) => {
        if (x < range[0] || x > range[1]) return;
        low = Math.min(low, points.step[i]);
        high = Math.max(high, points.step[i]);
      });
    }
    return low <= high ? { window: [low, high], x: "step" } : null;
  }

  private async fetchDetail(range: [number, number]): Promise<void> {
    if (this.host.detail === undefined) return;
    try {
      const drawn = this.figure?.lines.map((line) => line.metric) ?? [];
      const metrics = [...new Set([...drawn, ...this.tools.options.more])];
      const asked = this.asked(range);
      if (asked === null) return;
      const blocks = await this.host.detail(metrics, ...asked.window, 800, asked.x);
      if (this.zoom !== range) return;
      const detail = new SeriesStore();
      detail.apply(blocks, 0);
      this.detail = detail;
      this.refresh();
    } catch {
      // The thinned curve stays: a zoom without more detail is still a zoom.
    }
  }
}

function subtitle(status: SessionStatus): string {
  const metrics = status.metrics;
  const parts: string[] = [];
  if (status.totalModels > 1 && metrics !== null) parts.push(`model ${metrics.currentModel} of ${status.totalModels}`);
  const step = metrics?.currentStep ?? null;
  if (step !== null) {
    const total = metrics?.totalSteps ?? null;
    parts.push(`step ${count(step)}${total === null ? "" : ` of ${count(total)}`}`);
  }
  const phase = metrics?.extra.grokPhase;
  if (metrics?.grokProgress !== null && typeof phase === "string" && phase !== "") parts.push(phase);
  return parts.length > 0 ? parts.join(" \u00b7 ") : "no step recorded yet";
}

function troubleText(status: SessionStatus): string {
  if (status.error !== null && status.error !== "") return status.error;
  if (status.status === "interrupted") return "The training process ended without finishing this session.";
  if (status.lost > 0) return `${count(status.lost)} records could not be written and are missing here.`;
  return "";
}
