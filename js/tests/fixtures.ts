/** A made-up server: one log of records, and the messages the contract gives for it. */

import { asStatus, type Envelope, type ModelState, type ProgressUpdate, type SeriesBlock, type SessionStatus, type TrainingMetrics } from "../src/core/wire";
import type { Feed, Sink } from "../src/core/feed";

/** mulberry32: small, seeded, good enough to shuffle faults. */
export function prng(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export function metrics(over: Partial<TrainingMetrics> = {}): TrainingMetrics {
  return {
    loss: 1.5, perplexity: 4.48, grokProgress: null, modelParams: null, currentStep: 20, totalSteps: 100, currentModel: 1, totalModels: 1,
    overallProgress: 20, trainingTime: 2, estimatedTimeRemaining: 8, timestamp: 1, extra: {}, ...over,
  };
}

export function model(over: Partial<ModelState> = {}): ModelState {
  return {
    index: 0, name: "m", params: null, step: 0, totalSteps: 100, status: "running", startTime: null, endTime: null, loss: null,
    valLoss: null, grokProgress: null, grokPhase: null, grokOnsetStep: null, ...over,
  };
}

export function status(over: Partial<SessionStatus> = {}): SessionStatus {
  return asStatus({
    sessionId: "s1", seq: 1, name: "run", status: "running", config: {}, startTime: 1, endTime: null, lastUpdate: 1, totalModels: 1,
    models: [], metrics: metrics(), metricNames: ["loss"], marks: [], error: null, lost: 0, host: "h", pid: 1, controllable: true, ...over,
  })!;
}

export function block(rows: [seq: number, step: number, value: number | null][], over: Partial<SeriesBlock> = {}): SeriesBlock {
  return {
    model: 0, columns: ["loss"], seq: rows.map((r) => r[0]), step: rows.map((r) => r[1]), time: rows.map((r) => r[0]),
    values: [rows.map((r) => r[2])], ...over,
  };
}

export function update(fromSeq: number, seq: number, series: SeriesBlock[], over: Partial<ProgressUpdate> = {}): Envelope {
  const data: ProgressUpdate = { sessionId: "s1", seq, fromSeq, status: "running", metrics: metrics(), models: [], series, ...over };
  return { event: "progress_update", data: data as unknown as Record<string, unknown> };
}

export function statusMessage(over: Partial<SessionStatus> = {}): Envelope {
  return { event: "session_status", data: status(over) as unknown as Record<string, unknown> };
}

/** Records each request for missing records instead of answering it. */
export class ManualFeed implements Feed {
  asked: (number | undefined)[] = [];
  sink: Sink | null = null;

  attach(sink: Sink): () => void {
    this.sink = sink;
    sink.link("live", this);
    return () => {
      this.sink = null;
    };
  }

  resubscribe(sink: Sink): void {
    this.asked.push(sink.cursor());
  }
}
