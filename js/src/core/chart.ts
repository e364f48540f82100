/** Plotly on the page: one draw in flight, none when unseen, resized with its container. */

import { annotation, figureHeight, titleTop, type Figure } from "./figure";
import { h, setText, show } from "./dom";
import type { PlotlyApi } from "./plotly-loader";
import { look, moveCurves, named } from "./quick-draw";
import type { Theme } from "./theme";

/** The wire brings 10 updates a second, and at times two close together. */
const DRAW_EVERY_MS = 50;
/** Between two draws of Plotly only the curves move, and with them nothing it knows. */
export const PLOTLY_EVERY_MS = 2000;
/** During a theme switch JupyterLab hides the page: width 0, and no observer fires. */
const RETRY_HIDDEN_MS = 80;
const RETRY_LOAD_MS = 15_000;

type PlotElement = HTMLElement & {
  _dragging?: boolean;
  on?: (event: string, callback: (data: Record<string, unknown>) => void) => void;
};

export type FigureSource = (width: number) => Figure | null;

export class Chart {
  readonly node = h("div", "forge-chart");
  private readonly plot: PlotElement = h("div", "forge-plot");
  private readonly titles = h("div", "forge-panel-titles");
  private readonly note = h("div", "forge-chart-note", { role: "note" });
  private plotly: PlotlyApi | null = null;
  private wanted = false;
  private drawing = false;
  private seen = true;
  private disposed = false;
  private wired = false;
  private lastDraw = 0;
  /** What Plotly drew last. */
  private full: { figure: Figure; look: string; at: number } | null = null;
  private moved = false;
  private pointed = false;
  private settling: ReturnType<typeof setTimeout> | undefined;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly resize: ResizeObserver | null = null;
  private readonly visibility: IntersectionObserver | null = null;
  private width = 0;
  private frame = 0;

  constructor(
    private readonly load: () => Promise<PlotlyApi>,
    private readonly source: FigureSource,
    /** In Plotly's units: exponents on a logarithmic axis. */
    private readonly onZoom: (range: [number, number] | null) => void,
    private readonly onDrawn: (figure: Figure) => void = () => undefined,
  ) {
    this.plot.style.height = `${figureHeight(false)}px`;
    this.node.append(this.plot, this.titles, this.note);
    show(this.note, false);
    this.plot.addEventListener("pointerenter", () => this.point(true));
    this.plot.addEventListener("pointerleave", () => this.point(false));
    if (typeof ResizeObserver !== "undefined") {
      this.resize = new ResizeObserver(() => {
        if (this.node.clientWidth !== this.width) this.draw();
      });
      this.resize.observe(this.node);
    }
    if (typeof IntersectionObserver !== "undefined") {
      this.visibility = new IntersectionObserver((entries) => {
        this.seen = entries[entries.length - 1].isIntersecting;
        if (this.seen && this.wanted) this.schedule(0);
      }, { rootMargin: "200px" });
      this.visibility.observe(this.node);
    }
    void this.start();
  }

  /** Asks for a draw; any number of calls before it happens are one draw. */
  draw(): void {
    this.wanted = true;
    if (this.seen) this.schedule(Math.max(0, this.lastDraw + DRAW_EVERY_MS - performance.now()));
  }

  /** What is seen, as a picture with a legend on the card's own ground; a data: address. */
  async image(format: "png" | "svg", theme: Theme): Promise<string> {
    const figure = this.source(this.node.clientWidth);
    if (this.plotly?.toImage === undefined || figure === null) throw new Error("the chart is not there yet");
    const height = figure.height + 40;
    const layout = {
      ...figure.layout,
      annotations: [...((figure.layout.annotations as object[] | undefined) ?? []), ...figure.titles.map((title) => annotation(title, theme.surface))],
      height,
      margin: { l: 46, r: 16, t: 24, b: 64 },
      paper_bgcolor: theme.surface,
      plot_bgcolor: theme.surface,
      showlegend: true,
      legend: { orientation: "h", yref: "container", y: 0.01, yanchor: "bottom", x: 0, font: { color: theme.text } },
    };
    return this.plotly.toImage({ data: figure.data, layout }, { format, width: this.node.clientWidth, height, scale: format === "png" ? 2 : 1 });
  }

  dispose(): void {
    this.disposed = true;
    clearTimeout(this.timer);
    clearTimeout(this.settling);
    cancelAnimationFrame(this.frame);
    this.resize?.disconnect();
    this.visibility?.disconnect();
    this.plotly?.purge(this.plot);
  }

  private async start(): Promise<void> {
    try {
      this.plotly = await this.load();
    } catch (error) {
      if (this.disposed) return;
      setText(this.note, `The chart could not be loaded: ${error instanceof Error ? error.message : String(error)}`);
      show(this.note, true);
      this.timer = setTimeout(() => void this.start(), RETRY_LOAD_MS);
      return;
    }
    show(this.note, false);
    this.draw();
  }

  private schedule(delay: number): void {
    if (this.disposed || this.plotly === null || this.timer !== undefined || this.drawing) return;
    this.timer = setTimeout(() => {
      this.frame = requestAnimationFrame(() => {
        this.timer = undefined;
        void this.now();
      });
    }, delay);
  }

  private async now(): Promise<void> {
    if (this.disposed || this.plotly === null || !this.wanted) return;
    // A redraw would tear the selection the user is drawing from under the pointer.
    if (this.node.clientWidth === 0 || this.plot._dragging === true) {
      this.schedule(RETRY_HIDDEN_MS);
      return;
    }
    this.width = this.node.clientWidth;
    const figure = this.source(this.width);
    if (figure === null) return;
    this.wanted = false;
    this.lastDraw = performance.now();
    const seen = look(figure);
    if (this.move(figure, seen)) return;
    this.drawing = true;
    try {
      this.plot.style.height = `${figure.height}px`;
      await this.plotly.react(this.plot, named(figure), figure.layout, { displayModeBar: false, responsive: false, doubleClick: false, scrollZoom: false, showTips: false });
      this.full = { figure, look: seen, at: this.lastDraw };
      this.moved = false;
      this.drawn(figure);
    } catch (error) {
      setText(this.note, `The chart could not be drawn: ${error instanceof Error ? error.message : String(error)}`);
      show(this.note, true);
    } finally {
      this.drawing = false;
      this.drawAgain();
    }
  }

  /** Under the pointer Plotly draws each time: it says the values of what it drew itself. */
  private move(figure: Figure, seen: string): boolean {
    const { full } = this;
    if (full === null || full.look !== seen || this.pointed || this.lastDraw - full.at > PLOTLY_EVERY_MS) return false;
    if (!moveCurves(this.plot, full.figure, figure)) return false;
    this.moved = true;
    clearTimeout(this.settling);
    this.settling = setTimeout(() => this.draw(), full.at + PLOTLY_EVERY_MS + 1 - this.lastDraw);
    this.onDrawn(figure);
    return true;
  }

  private point(over: boolean): void {
    this.pointed = over;
    if (over && this.moved) this.draw();
  }

  /** Something changed while the last draw was in flight. */
  private drawAgain(): void {
    if (this.wanted) this.draw();
  }

  private drawn(figure: Figure): void {
    if (this.disposed) {
      // The card went while the draw was in flight.
      this.plotly?.purge(this.plot);
      return;
    }
    this.wire();
    this.paintTitles(figure);
    this.onDrawn(figure);
  }

  private paintTitles({ titles, height }: Figure): void {
    while (this.titles.children.length > titles.length) this.titles.lastElementChild?.remove();
    while (this.titles.children.length < titles.length) this.titles.append(h("div", "forge-panel-title"));
    titles.forEach((title, i) => {
      const node = this.titles.children[i] as HTMLElement;
      setText(node, title.text);
      node.style.top = `${titleTop(title, height)}px`;
    });
  }

  /** Plotly adds `on` to the element with its first draw. */
  private wire(): void {
    if (this.wired || this.plot.on === undefined) return;
    this.wired = true;
    this.plot.on("plotly_relayout", (change) => {
      const from = change["xaxis.range[0]"];
      const to = change["xaxis.range[1]"];
      if (typeof from === "number" && typeof to === "number") this.onZoom([from, to]);
    });
    this.plot.on("plotly_doubleclick", () => this.onZoom(null));
  }
}
