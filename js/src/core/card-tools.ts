/** How the chart is drawn: smoothing, axes; and what is seen as a file. */

import { h, setAttributes, setText, show } from "./dom";
import { DEFAULT_OPTIONS, type ChartOptions } from "./figure";
import { SEVERAL, WIDEST } from "./smooth";
import type { XKind } from "./x-axis";

export type Format = "png" | "svg" | "csv";

export interface Tools {
  options: ChartOptions;
  several: boolean;
  hasEpoch: boolean;
}

const X_NAMES: Record<XKind, string> = { step: "step", time: "time", epoch: "epoch" };

export class ChartTools {
  readonly node = h("div", "forge-tools", { role: "group", "aria-label": "Chart" });
  options: ChartOptions = DEFAULT_OPTIONS;
  private readonly smoothing = h("input", "", { type: "range", min: 0, max: 100, step: 5 });
  private readonly smoothText = h("output", "forge-tool-value");
  private readonly axis = h("select", "forge-select", { "aria-label": "Horizontal axis" });
  private readonly logX = toggle("log x");
  private readonly logY = toggle("log y");
  private readonly files = h("details", "forge-menu", {}, h("summary", "forge-button", {}, "Save"));

  constructor(
    private readonly changed: (old: ChartOptions) => void,
    save: (format: Format) => void,
  ) {
    const smooth = h("label", "forge-tool", {}, "smooth", this.smoothing, this.smoothText);
    const x = h("label", "forge-tool", {}, "x", this.axis);
    const menu = h("div", "forge-menu-list", {});
    for (const format of ["png", "svg", "csv"] as const) {
      const item = h("button", "forge-button", { type: "button" }, format.toUpperCase());
      item.addEventListener("click", () => {
        this.files.open = false;
        save(format);
      });
      menu.append(item);
    }
    this.files.append(menu);
    this.files.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !this.files.open) return;
      this.files.open = false;
      this.files.querySelector("summary")?.focus();
    });
    this.node.append(smooth, x, this.logX, this.logY, this.files);
    this.smoothing.title = "Running mean of the points on this page; the raw curve stays behind it. Long curves are thinned to the lowest and highest of each stretch, and this is the mean of those.";
    this.smoothing.addEventListener("input", () => this.set({ smoothing: WIDEST * (Number(this.smoothing.value) / 100) ** 2 }));
    this.axis.addEventListener("change", () => this.set({ x: this.axis.value as XKind }));
    this.logX.addEventListener("click", () => this.set({ logX: !this.options.logX }));
    this.logY.addEventListener("click", () => this.set({ logY: !this.options.logY }));
  }

  set(change: Partial<ChartOptions>): void {
    const old = this.options;
    this.options = { ...old, ...change };
    this.changed(old);
  }

  update(several: boolean, hasEpoch: boolean): void {
    const share = this.options.smoothing ?? (several ? SEVERAL : 0);
    const at = String(Math.round(100 * Math.sqrt(share / WIDEST)));
    if (document.activeElement !== this.smoothing) this.smoothing.value = at;
    const text = share === 0 ? "off" : `${(100 * share).toFixed(share < 0.01 ? 1 : 0)}%`;
    setText(this.smoothText, text);
    setAttributes(this.smoothing, { "aria-label": "Smoothing", "aria-valuetext": share === 0 ? "off" : `running mean over ${text} of the points` });
    setAttributes(this.logX, { "aria-pressed": this.options.logX ? "true" : "false" });
    setAttributes(this.logY, { "aria-pressed": this.options.logY ? "true" : "false" });
    const kinds: XKind[] = hasEpoch ? ["step", "time", "epoch"] : ["step", "time"];
    if (this.axis.options.length !== kinds.length) this.axis.replaceChildren(...kinds.map((kind) => h("option", "", { value: kind }, X_NAMES[kind])));
    if (this.axis.value !== this.options.x) this.axis.value = this.options.x;
  }

  visible(yes: boolean): void {
    show(this.node, yes);
  }
}

function toggle(label: string): HTMLButtonElement {
  return h("button", "forge-button forge-toggle", { type: "button", "aria-pressed": "false" }, label);
}
