/** The legend: each model once, each kind of line once; both can be switched off. */

import { h, setAttributes, setText, svg } from "./dom";
import { hue, modelName } from "./figure";
import { compact, loss } from "./format";
import type { Kind, Shown } from "./metrics-shown";
import type { Theme } from "./theme";
import type { SessionStatus } from "./wire";

const DASH: Record<Shown["dash"], string> = { solid: "", dash: "6 3", dot: "2 2" };

export class Legend {
  readonly node = h("div", "forge-legend");
  readonly hidden = new Set<string>();
  private readonly models = h("div", "forge-legend-group", { role: "group", "aria-label": "Models" });
  private readonly kinds = h("div", "forge-legend-group", { role: "group", "aria-label": "Curves" });
  private readonly items = new Map<string, HTMLButtonElement>();

  constructor(private readonly toggled: () => void) {
    this.node.append(this.models, this.kinds);
  }

  update(status: SessionStatus, shown: Shown[], theme: Theme, smooth: boolean): void {
    const several = status.totalModels > 1;
    const wanted = new Set<string>();
    if (several) {
      for (const model of status.models) {
        const key = `model:${model.index}`;
        wanted.add(key);
        const item = this.item(key, this.models, () => swatch());
        item.style.color = hue(theme, model.index);
        const last = model.valLoss ?? model.loss;
        const detail = [model.params === null ? "" : compact(model.params), last === null ? "" : loss(last)].filter((t) => t !== "");
        this.face(item, key, modelName(status, model.index), detail.join(" \u00b7 "));
        item.title = `${modelName(status, model.index)}: ${model.status}${model.params === null ? "" : `, ${compact(model.params)} parameters`}${last === null ? "" : `, ${model.valLoss === null ? "loss" : "validation loss"} ${loss(last)}`}`;
      }
    }
    let at = 0;
    for (const { kind, label, dash } of merge(shown)) {
      const key = `kind:${kind}`;
      wanted.add(key);
      const item = this.item(key, this.kinds, () => sample(DASH[dash]));
      // Curves that came later stand where their kind stands.
      if (this.kinds.children[at] !== item) this.kinds.insertBefore(item, this.kinds.children[at] ?? null);
      at += 1;
      item.style.color = several ? theme.muted : hue(theme, kind === "rank" ? 2 : dash === "dash" ? 1 : 0);
      this.face(item, key, label, smooth && kind === "train" ? "running mean over raw" : "");
    }
    for (const [key, item] of this.items) {
      if (wanted.has(key)) continue;
      item.remove();
      this.items.delete(key);
    }
  }

  private item(key: string, group: HTMLElement, picture: () => Node): HTMLButtonElement {
    let item = this.items.get(key);
    if (item === undefined) {
      item = h("button", "forge-legend-item", { type: "button" });
      item.append(picture(), h("span", "forge-legend-name"), h("span", "forge-legend-detail"));
      item.addEventListener("click", () => {
        if (!this.hidden.delete(key)) this.hidden.add(key);
        this.toggled();
      });
      this.items.set(key, item);
      group.append(item);
    }
    return item;
  }

  private face(item: HTMLButtonElement, key: string, name: string, detail: string): void {
    setText(item.children[1], name);
    setText(item.children[2], detail);
    setAttributes(item, { "aria-pressed": this.hidden.has(key) ? "false" : "true" });
  }
}

/** Train and validation of loss and of accuracy have one line style each: one entry for both. */
function merge(shown: Shown[]): { kind: Kind; label: string; dash: Shown["dash"] }[] {
  return shown.filter((s) => !(s.kind === "accuracy" && shown.some((o) => o.kind === "train")) && !(s.kind === "val_accuracy" && shown.some((o) => o.kind === "val")));
}

/** Switching off "train" switches off train accuracy with it. */
export function withPartners(hidden: ReadonlySet<string>): Set<string> {
  const all = new Set(hidden);
  if (hidden.has("kind:train")) all.add("kind:accuracy");
  if (hidden.has("kind:val")) all.add("kind:val_accuracy");
  return all;
}

function swatch(): Node {
  return svg("svg", { viewBox: "0 0 12 12", width: 10, height: 10, "aria-hidden": "true" }, svg("rect", { x: 1, y: 1, width: 10, height: 10, rx: 3, fill: "currentColor" }));
}

function sample(dash: string): Node {
  return svg("svg", { viewBox: "0 0 22 8", width: 22, height: 8, "aria-hidden": "true" }, svg("path", { d: "M1 4h20", stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": dash }));
}
