/** One session as seen from here: cursor rule, gaps, connection state. Knows no transport and no DOM. */

import { STALE_AFTER_MS, STALE_AT_MOST_MS, mayFollow, type Connection } from "./connection";
import type { Feed, Link, Sink } from "./feed";
import { SeriesStore } from "./series";
import {
  LIFECYCLE,
  asStatus,
  isLive,
  isObject,
  isUnknownSession,
  type Ack,
  type Envelope,
  type LiveBase,
  type Mark,
  type ProgressUpdate,
  type SeriesBlock,
  type SessionStatus,
  type Snapshot,
  type TrainingMetrics,
} from "./wire";

/** An unanswered request for the missing records is repeated after this. */
export const RESYNC_AFTER_MS = 2000;
const MAX_MARKS = 500;

export class SessionClient implements Sink {
  readonly series = new SeriesStore();
  status: SessionStatus | null = null;
  connection: Connection = "connecting";
  /** Local time at which anything was last heard, and at which the metrics arrived. */
  heardAt: number;
  metricsAt = 0;
  /** Server says it does not know this session. */
  missing = false;
  gaps = 0;

  private position: number | undefined;
  private previewing = false;
  private resyncAt = 0;
  private resyncs = 0;
  private aheadTo = 0;
  private aheadSince = 0;
  private interval = 0;
  private readonly links = new Map<Feed, Link>();
  private readonly detach = new Map<Feed, () => void>();
  private readonly listeners = new Set<() => void>();
  private readonly ackListeners = new Set<(ack: Ack) => void>();
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(
    readonly sessionId: string,
    private readonly now: () => number = () => Date.now(),
  ) {
    this.heardAt = now();
    this.timer = setInterval(() => this.check(), 1000);
  }

  /** Several transports may feed one client: the cursor makes each record count once. */
  attach(feed: Feed): void {
    if (!this.detach.has(feed)) this.detach.set(feed, feed.attach(this));
  }

  /** Paints at once from a snapshot; its records are not asked for again. */
  load(snapshot: Snapshot): void {
    this.applyStatus(snapshot.status);
    if (snapshot.update !== null) this.applyLive("progress_update", snapshot.update, null);
    this.changed();
  }

  /**
   * Shows a snapshot of unknown age until a transport answers. It does not move
   * the cursor: the first answer replaces it as a whole.
   */
  preview(snapshot: Snapshot): void {
    this.load(snapshot);
    this.position = undefined;
    this.previewing = true;
  }

  cursor(): number | undefined {
    return this.position;
  }

  /** Records are missing, and asking for them again brought none: what the transport sends is heard, what we send is not. */
  get unanswered(): boolean {
    return this.resyncs > 1;
  }

  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  onAck(listener: (ack: Ack) => void): () => void {
    this.ackListeners.add(listener);
    return () => this.ackListeners.delete(listener);
  }

  receive(message: Envelope, feed: Feed): void {
    this.heard();
    const { event, data } = message;
    if (data.sessionId !== undefined && data.sessionId !== this.sessionId) return;
    if (event === "session_status") {
      const status = asStatus(data);
      if (status !== null) this.applyStatus(status);
    } else if (event === "error") {
      if (isUnknownSession(data)) this.missing = true;
    } else if (event === "progress_update" || LIFECYCLE.has(event)) {
      // An acknowledgement counts even when its record was already covered.
      if (event === "command_ack") this.ackListeners.forEach((listener) => listener(data as unknown as Ack));
      if (isLive(data)) this.applyLive(event, data as unknown as LiveBase, feed);
    } else {
      return;
    }
    this.changed();
  }

  heard(): void {
    this.heardAt = this.now();
    if (this.connection === "stale") this.settle();
  }

  link(state: Link, feed: Feed): void {
    if (state !== "offline" && state !== "connecting") this.heardAt = this.now();
    if (this.links.get(feed) === state) return;
    this.links.set(feed, state);
    this.resyncAt = 0;
    this.settle();
  }

  dispose(): void {
    clearInterval(this.timer);
    this.detach.forEach((stop) => stop());
    this.detach.clear();
    this.listeners.clear();
    this.ackListeners.clear();
  }

  private applyStatus(next: SessionStatus): void {
    const last = this.status;
    // The folder was recorded anew under the same id: what we hold is another run's.
    if (last !== null && next.startTime !== last.startTime && next.seq < (this.position ?? 0)) this.reset();
    this.missing = false;
    if (this.previewing) {
      this.previewing = false;
      this.reset();
    }
    if (this.status !== null && next.seq < (this.position ?? 0)) {
      // Overtaken on the way (another transport was faster): keep the newer numbers.
      next = { ...this.status, config: filled(next.config, this.status.config) };
    } else if (this.status !== null) {
      next.config = filled(next.config, this.status.config);
      next.marks = mergeMarks(this.status.marks, next.marks);
    }
    this.status = next;
    this.metricsAt = this.now();
    if (next.seq > (this.position ?? 0)) this.announced(next.seq);
  }

  /** Records up to `seq` exist; their update should be on its way already. */
  private announced(seq: number): void {
    if (this.aheadTo <= (this.position ?? 0)) this.aheadSince = this.now();
    this.aheadTo = Math.max(this.aheadTo, seq);
  }

  private applyLive(event: string, data: LiveBase, feed: Feed | null): void {
    const cursor = this.position ?? 0;
    if (data.fromSeq > cursor) {
      this.gaps += 1;
      if (feed !== null) this.resync(feed);
      return;
    }
    // The overview of a session that has no record yet has seq 0 and still starts the cursor.
    if (data.seq <= cursor && this.position !== undefined) return;
    const series = (data as Partial<ProgressUpdate>).series;
    if (Array.isArray(series)) this.series.apply(series, cursor);
    if (this.status !== null) {
      this.mergeLive(this.status, event, data);
      learnNames(this.status, series ?? []);
    }
    this.position = Math.max(cursor, data.seq);
    this.resyncAt = 0;
    this.resyncs = 0;
    const now = this.now();
    this.aheadSince = now;
    if (this.metricsAt > 0) this.interval = 0.7 * this.interval + 0.3 * Math.min(STALE_AT_MOST_MS, now - this.metricsAt);
    this.metricsAt = now;
  }

  private mergeLive(status: SessionStatus, event: string, data: LiveBase): void {
    // The status of a subscribe is as new as the update that follows it, or newer, and
    // knows more: that the writer is dead stands in no record, so an update says "running".
    if (data.seq > status.seq) {
      status.seq = data.seq;
      status.status = data.status;
      if (data.metrics !== null) takeMetrics(status, data.metrics);
      for (const model of data.models) {
        const at = status.models.findIndex((m) => m.index === model.index);
        if (at >= 0) status.models[at] = model;
        else status.models.push(model);
      }
      status.models.sort((a, b) => a.index - b.index);
    }
    if (event === "progress_update" || event === "command_ack") return;
    const payload = data as unknown as Record<string, unknown>;
    const time = typeof payload.time === "number" ? payload.time : status.lastUpdate;
    if (event === "training_failed" && typeof payload.error === "string") status.error = payload.error;
    if (/^training_(completed|failed|stopped)$/.test(event)) status.endTime = time;
    const mark: Mark = {
      seq: data.seq,
      time,
      step: typeof payload.step === "number" ? payload.step : null,
      model: typeof payload.model === "number" ? payload.model : null,
      event,
      data: payload,
    };
    status.marks = mergeMarks(status.marks, [mark]);
  }

  private resync(feed: Feed): void {
    const now = this.now();
    if (this.resyncAt !== 0 && now - this.resyncAt < RESYNC_AFTER_MS) return;
    this.resyncAt = now;
    this.resyncs += 1;
    feed.resubscribe(this);
  }

  private reset(): void {
    this.series.clear();
    this.position = undefined;
    this.status = null;
    this.aheadTo = 0;
    this.previewing = false;
  }

  /** Once a second: silence, and records that were announced but never came. */
  private check(): void {
    const feed = [...this.links].find(([, state]) => state === "live" || state === "polling")?.[0];
    const quiet = this.now() - this.heardAt;
    if (feed !== undefined && this.aheadTo > (this.position ?? 0) && this.now() - this.aheadSince > 2 * RESYNC_AFTER_MS) {
      this.aheadSince = this.now();
      this.resync(feed);
    } else if (feed !== undefined && this.resyncAt !== 0 && this.now() - this.resyncAt >= RESYNC_AFTER_MS) {
      this.resync(feed);
    }
    const patience = Math.min(STALE_AT_MOST_MS, Math.max(STALE_AFTER_MS, 3 * this.interval));
    const running = this.status?.status === "running";
    if (running && quiet > patience && (this.connection === "live" || this.connection === "polling")) {
      this.go("stale");
      this.changed();
    }
  }

  /** The best of what the transports report. */
  private settle(): void {
    const states = [...this.links.values()];
    const best = (["live", "polling", "connecting"] as const).find((s) => states.includes(s)) ?? "offline";
    if (best !== this.connection) {
      this.go(best);
      this.changed();
    }
  }

  private go(to: Connection): void {
    if (!mayFollow(this.connection, to)) throw new Error(`connection: ${this.connection} -> ${to}`);
    this.connection = to;
  }

  private changed(): void {
    this.listeners.forEach((listener) => listener());
  }
}

/** Time may be counted on locally: the session runs, and we would hear if it stopped. */
export function isTicking(client: SessionClient): boolean {
  const status = client.status;
  return status !== null && status.status === "running" && !client.missing && client.connection !== "offline";
}

/** A metric that is recorded for the first time after we came stands in the curves only. */
function learnNames(status: SessionStatus, series: readonly SeriesBlock[]): void {
  const names = new Set(series.flatMap((block) => block.columns));
  status.metricNames.forEach((name) => names.delete(name));
  if (names.size > 0) status.metricNames = [...status.metricNames, ...names];
}

/** What changes with each step of a model stands in the metrics only. */
function takeMetrics(status: SessionStatus, metrics: TrainingMetrics): void {
  status.metrics = metrics;
  const { loss, grokProgress, currentStep } = metrics;
  const model = status.models.find((m) => m.index === metrics.currentModel - 1);
  if (model !== undefined) Object.assign(model, { loss, grokProgress, step: currentStep ?? model.step });
}

function filled(next: Record<string, unknown>, last: Record<string, unknown>): Record<string, unknown> {
  return isObject(next) && Object.keys(next).length > 0 ? next : last;
}

function mergeMarks(a: Mark[], b: Mark[]): Mark[] {
  const bySeq = new Map<number, Mark>();
  for (const mark of a) bySeq.set(mark.seq, mark);
  for (const mark of b) bySeq.set(mark.seq, mark);
  return [...bySeq.values()].sort((x, y) => x.seq - y.seq).slice(-MAX_MARKS);
}
