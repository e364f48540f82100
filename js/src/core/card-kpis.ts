/** The row of numbers. What a session does not measure is not shown; what it measures but is unknown now is a dash. */

import { h, setText, show } from "./dom";
import { compact, duration, value } from "./format";
import { shownMetrics } from "./metrics-shown";
import { isTicking, type SessionClient } from "./session-client";
import { isEnded, type Num, type SessionStatus } from "./wire";

interface Reading {
  /** In place of the number's own label. */
  label?: string;
  text: string;
  unit?: string;
  bad?: boolean;
}

interface Kpi {
  label: string;
  /** null hides it. */
  read(status: SessionStatus, client: SessionClient, now: number): Reading | null;
}

const KPIS: readonly Kpi[] = [
  { label: "", read: primary },
  { label: "val loss", read: (s) => extra(s, "val_loss") },
  { label: "train loss", read: loss },
  { label: "perplexity", read: perplexity },
  { label: "bits/byte", read: (s) => extra(s, "bits_per_byte") },
  { label: "val acc.", read: accuracy },
  { label: "speed", read: speed },
  { label: "elapsed", read: (s, client, now) => ({ text: duration(elapsed(s, client, now)) }) },
  { label: "ETA", read: (s) => (isEnded(s.status) ? null : { text: duration(s.metrics?.estimatedTimeRemaining) }) },
];

export class KpiRow {
  readonly node = h("dl", "forge-kpis");
  private readonly cells = KPIS.map((kpi) => {
    const number = h("span", "forge-kpi-value");
    const unit = h("span", "forge-kpi-unit");
    const label = h("dt", "", {}, kpi.label);
    const cell = h("div", "forge-kpi", {}, label, h("dd", "", {}, number, unit));
    this.node.append(cell);
    return { kpi, cell, label, number, unit };
  });

  update(status: SessionStatus, client: SessionClient, now: number): void {
    let first = true;
    for (const { kpi, cell, label, number, unit } of this.cells) {
      const reading = kpi.read(status, client, now);
      show(cell, reading !== null);
      if (reading === null) continue;
      setText(label, reading.label ?? kpi.label);
      setText(number, reading.text);
      setText(unit, reading.unit ?? "");
      cell.classList.toggle("forge-kpi-lead", first);
      cell.classList.toggle("forge-kpi-bad", reading.bad === true);
      first = false;
    }
  }
}

/** Seconds of training, counted on locally between updates while the session runs. */
export function elapsed(status: SessionStatus, client: SessionClient, now: number): Num {
  const known = status.metrics?.trainingTime ?? null;
  if (isEnded(status.status)) return known ?? (status.endTime === null ? null : status.endTime - status.startTime);
  if (known === null) return null;
  // Only the time since arrival is added: the server's clock may differ from ours.
  return isTicking(client) ? known + Math.max(0, now - client.metricsAt) / 1000 : known;
}

/** A session that knows no loss is led by the metric its chart draws. */
function primary(status: SessionStatus, client: SessionClient): Reading | null {
  const shown = shownMetrics(client.series, status.metricNames).find((s) => s.kind === "train");
  if (shown === undefined || shown.metric === "loss") return null;
  const reading = extra(status, shown.metric);
  return reading === null ? null : { ...reading, label: shown.metric };
}

function loss(status: SessionStatus, client: SessionClient): Reading | null {
  const metrics = status.metrics;
  if (metrics === null) return { text: value(null) };
  const bad = metrics.nonFinite?.loss;
  if (metrics.loss === null && bad === undefined && !status.metricNames.includes("loss") && status.metricNames.length > 0) return null;
  return { text: value(bad === undefined ? unrounded(metrics.loss, client, metrics.currentModel - 1) : null, bad), bad: bad !== undefined };
}

/** The wire rounds the loss to four decimals; a small one would read 0, which it is not. */
function unrounded(loss: Num, client: SessionClient, model: number): Num {
  const recorded = client.series.curve(model, "loss")?.points.value;
  const last = recorded?.[recorded.length - 1];
  return loss !== null && last !== undefined && Math.abs(last - loss) <= 5e-5 ? last : loss;
}

function perplexity(status: SessionStatus): Reading | null {
  const metrics = status.metrics;
  const bad = metrics?.nonFinite?.perplexity;
  // Derived from the loss: without a loss there is none to be missed.
  if (metrics === null || (metrics.perplexity === null && bad === undefined && metrics.nonFinite?.loss === undefined)) return null;
  return { text: metrics.perplexity === null ? value(null, bad) : metrics.perplexity < 100 ? metrics.perplexity.toFixed(2) : value(metrics.perplexity), bad: bad !== undefined };
}

function accuracy(status: SessionStatus): Reading | null {
  const x = status.metrics?.extra.val_accuracy;
  return typeof x === "number" ? { text: (100 * x).toFixed(1), unit: "%" } : null;
}

function extra(status: SessionStatus, name: string): Reading | null {
  const metrics = status.metrics;
  const bad = metrics?.nonFinite?.[name];
  const x = metrics?.extra[name];
  if (bad !== undefined) return { text: value(null, bad), bad: true };
  if (typeof x === "number") return { text: value(x) };
  return status.metricNames.includes(name) ? { text: value(null) } : null;
}

function speed(status: SessionStatus, client: SessionClient): Reading | null {
  const tokens = status.metrics?.extra.tokens_per_s;
  if (typeof tokens === "number") return { text: compact(tokens), unit: "tok/s" };
  const steps = client.series.stepsPerSecond();
  return steps === null ? null : { text: compact(steps), unit: "steps/s" };
}
