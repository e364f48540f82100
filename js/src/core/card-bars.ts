/** Overall progress, one segment per model, and the grokking bar. */

import { h, setAttributes, setText, show } from "./dom";
import { percent } from "./format";
import { hue, modelName } from "./figure";
import type { Theme } from "./theme";
import type { ModelState, Num, SessionStatus } from "./wire";

/** More segments than this are thinner than their gaps. */
const MOST_SEGMENTS = 32;

class Bar {
  readonly node: HTMLElement;
  readonly track = h("div", "forge-track", { role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100 });
  private readonly text = h("span", "forge-bar-text");
  private readonly label = h("span", "forge-bar-label");

  constructor(modifier: string) {
    this.node = h("div", `forge-bar ${modifier}`, {}, this.label, this.track, this.text);
  }

  set(label: string, at: Num, text: string): void {
    setText(this.label, label);
    setText(this.text, text);
    setAttributes(this.track, {
      "aria-label": label,
      "aria-valuenow": at === null ? null : Number(at.toFixed(1)),
      "aria-valuetext": text,
    });
  }

  segments(n: number): HTMLElement[] {
    while (this.track.children.length > n) this.track.lastChild?.remove();
    while (this.track.children.length < n) this.track.append(h("div", "forge-segment", {}, h("div", "forge-fill")));
    return [...this.track.children] as HTMLElement[];
  }
}

export class Bars {
  private readonly overall = new Bar("forge-bar-overall");
  private readonly grok = new Bar("forge-bar-grok");
  readonly node = h("div", "forge-bars", {}, this.overall.node, this.grok.node);

  update(status: SessionStatus, theme: Theme): void {
    const at = overallProgress(status);
    show(this.overall.node, at !== null);
    if (at !== null) {
      this.overall.set("overall", at, percent(at));
      const several = status.totalModels > 1 && status.totalModels <= MOST_SEGMENTS;
      const segments = this.overall.segments(several ? status.totalModels : 1);
      segments.forEach((segment, i) => {
        const model = status.models.find((m) => m.index === i);
        fill(segment, several ? segmentProgress(status, model, i, at) : at, hue(theme, several ? i : 0));
        if (several) segment.title = `${modelName(status, i)}: ${model?.status ?? "pending"}`;
      });
    }
    const grok = status.metrics?.grokProgress ?? null;
    show(this.grok.node, grok !== null);
    if (grok !== null) {
      const method = status.metrics?.extra.grokMethod;
      const phase = status.metrics?.extra.grokPhase;
      // The formula without validation data only restates the loss, and is called that.
      this.grok.set(method === "loss" ? "loss heuristic" : "grok", grok, percent(grok));
      this.grok.node.classList.toggle("forge-bar-heuristic", method === "loss");
      this.grok.node.title = typeof phase === "string" && phase !== "" ? `phase: ${phase}` : "";
      fill(this.grok.segments(1)[0], grok, "var(--forge-grok)");
    }
  }
}

/** Exactly 100 when completed, whatever rounding the last update carried. */
export function overallProgress(status: SessionStatus): Num {
  return status.status === "completed" ? 100 : (status.metrics?.overallProgress ?? null);
}

export function segmentProgress(status: SessionStatus, model: ModelState | undefined, index: number, overall: number): number {
  if (status.status === "completed" || model?.status === "completed") return 100;
  if (model !== undefined && model.totalSteps !== null && model.totalSteps > 0) return Math.min(100, (100 * model.step) / model.totalSteps);
  // No total of its own: this model's share of the overall number.
  return Math.min(100, Math.max(0, overall * status.totalModels - 100 * index));
}

function fill(segment: HTMLElement, at: number, color: string): void {
  const bar = segment.firstElementChild as HTMLElement;
  bar.style.width = `${Math.max(0, Math.min(100, at))}%`;
  bar.style.background = color;
}
