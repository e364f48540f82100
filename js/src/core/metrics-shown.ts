/** Which of a session's metrics the charts draw, and under what names. */

import type { SeriesStore } from "./series";

export type Kind = "train" | "val" | "accuracy" | "val_accuracy" | "rank" | "more";

export interface Shown {
  kind: Kind;
  metric: string;
  panel: "loss" | "grok" | "more";
  label: string;
  /** Line style carries the meaning, so that colour is never needed to read it. */
  dash: "solid" | "dash" | "dot";
}

const TRAIN = ["loss", "train_loss"];
const VALIDATION = ["val_loss", "validation_loss", "eval_loss"];
const OTHER = new Set(["accuracy", "val_accuracy", "rank_val", "rank_train", "epoch", "lr"]);

export function shownMetrics(series: SeriesStore, names: string[]): Shown[] {
  const shown: Shown[] = [];
  const add = (metric: string | undefined, kind: Kind, panel: Shown["panel"], label: string, dash: Shown["dash"]): void => {
    if (metric !== undefined && series.has(metric)) shown.push({ kind, metric, panel, label, dash });
  };
  const validation = VALIDATION.find((m) => series.has(m));
  // A session without a loss is drawn by its first metric: a reward, an error.
  const first = TRAIN.find((m) => series.has(m)) ?? (validation === undefined ? names.find((m) => !OTHER.has(m) && series.has(m)) : undefined);
  add(first, "train", "loss", first !== undefined && TRAIN.includes(first) ? "train" : (first ?? ""), "solid");
  add(validation, "val", "loss", "validation", "dash");
  if (series.has("accuracy") && series.has("val_accuracy")) {
    add("accuracy", "accuracy", "grok", "train accuracy", "solid");
    add("val_accuracy", "val_accuracy", "grok", "validation accuracy", "dash");
  }
  add("rank_val", "rank", "grok", "rank progress", "dot");
  return shown;
}

const FIRST = ["lr", "learning_rate", "grad_norm", "tokens_per_s", "memory_mb", "memory", "gpu_memory_mb"];

/** What is logged beside the charts, best known first: each has a small curve of its own. */
export function otherMetrics(series: SeriesStore, names: string[]): string[] {
  const drawn = new Set(shownMetrics(series, names).map((s) => s.metric));
  const rank = (name: string): number => (FIRST.includes(name) ? FIRST.indexOf(name) : /mem/i.test(name) ? FIRST.length : FIRST.length + 1);
  // The epoch is an axis, not a result.
  return names.filter((name) => !drawn.has(name) && name !== "epoch" && series.has(name)).sort((a, b) => rank(a) - rank(b));
}

/** Both measures are fractions on the wire; the panel reads in percent. */
export function toPercent(x: number): number {
  return 100 * Math.min(1, Math.max(0, x));
}
