/** What is worth telling somebody who looks elsewhere: the end of a training, an alert, the onset of grokking. */

import type { Api } from "./api";
import type { Feed, Sink } from "./feed";
import { ALL_SESSIONS, asStatus, isEnded, isObject, type Envelope, type Mark, type ModelState, type SessionStatus } from "./wire";

export interface News {
  kind: "finished" | "failed" | "alert" | "grokking";
  sessionId: string;
  title: string;
  text: string;
}

/** The list carries no events; alerts of running sessions are asked for this often. */
const ALERTS_EVERY_MS = 10_000;

interface Known {
  ended: boolean;
  grokking: Set<number>;
  alertSeq: number | null;
  name: string;
}

/** What was there when we came is not news. */
export class NewsDesk implements Sink {
  readonly sessionId = ALL_SESSIONS;
  private readonly known = new Map<string, Known>();
  /** Unix seconds. Of what began later, everything is news. */
  private readonly since = Date.now() / 1000;
  private readonly detach: () => void;
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(
    feed: Feed,
    private readonly api: Pick<Api, "status">,
    private readonly tell: (news: News) => void,
  ) {
    this.detach = feed.attach(this);
    this.timer = setInterval(() => void this.lookForAlerts(), ALERTS_EVERY_MS);
  }

  dispose(): void {
    clearInterval(this.timer);
    this.detach();
  }

  cursor(): undefined {
    return undefined;
  }

  heard(): void {
    // Heartbeats are no news.
  }

  link(): void {
    // Nor is how we hear of them.
  }

  receive({ event, data }: Envelope): void {
    if (event === "session_list" && Array.isArray(data.sessions)) {
      for (const session of data.sessions as SessionStatus[]) this.look(session);
    } else if (event === "session_status") {
      if (data.status === "deleted") this.known.delete(String(data.sessionId));
      const status = asStatus(data);
      if (status !== null) this.look(status);
    } else if (isObject(data) && event === "alert") {
      const known = this.known.get(String(data.sessionId));
      if (known !== undefined && typeof data.seq === "number") this.alert(String(data.sessionId), known, data.seq, data);
    }
  }

  private look(status: SessionStatus): void {
    const onset = status.models.filter((m) => m.grokOnsetStep !== null);
    const known = this.known.get(status.sessionId);
    if (known === undefined) {
      this.known.set(status.sessionId, { ended: isEnded(status.status), grokking: new Set(onset.map((m) => m.index)), alertSeq: status.startTime < this.since ? null : 0, name: status.name });
      return;
    }
    known.name = status.name;
    for (const model of onset) this.grokking(status, known, model);
    const ended = isEnded(status.status);
    if (ended && !known.ended) this.ended(status);
    known.ended = ended;
  }

  private ended(status: SessionStatus): void {
    const failed = status.status === "failed" || status.status === "interrupted";
    const text = { completed: "Training completed", stopped: "Training stopped", failed: "Training failed", interrupted: "The training process is gone" }[status.status as string] ?? status.status;
    this.tell({ kind: failed ? "failed" : "finished", sessionId: status.sessionId, title: status.name, text: status.error === null ? text : `${text}: ${status.error}` });
  }

  private grokking(status: SessionStatus, known: Known, model: ModelState): void {
    if (known.grokking.has(model.index)) return;
    known.grokking.add(model.index);
    this.tell({ kind: "grokking", sessionId: status.sessionId, title: status.name, text: `${model.name} began to generalize at step ${model.grokOnsetStep}` });
  }

  private async lookForAlerts(): Promise<void> {
    for (const [id, known] of this.known) {
      if (known.ended) continue;
      let marks: Mark[];
      try {
        marks = (await this.api.status(id)).marks.filter((m) => m.event === "alert");
      } catch {
        continue;
      }
      // Of a session that was there before us the alerts are of unknown age.
      if (known.alertSeq === null) known.alertSeq = marks.reduce((seq, m) => Math.max(seq, m.seq), 0);
      else for (const mark of marks) this.alert(id, known, mark.seq, mark.data);
    }
  }

  private alert(id: string, known: Known, seq: number, data: Record<string, unknown>): void {
    if (seq <= (known.alertSeq ?? 0)) return;
    known.alertSeq = seq;
    // The list has told of it, with the model's name.
    if (data.kind === "grokking") return;
    const text = data.message ?? data.kind;
    this.tell({ kind: "alert", sessionId: id, title: known.name, text: typeof text === "string" ? text : "alert" });
  }
}

/** The system's own notification, where the user has allowed it and looks elsewhere. */
export function browserNotify(news: News): void {
  if (typeof Notification === "undefined" || Notification.permission !== "granted" || document.visibilityState === "visible") return;
  // One for each session and kind, also when several pages are open.
  new Notification(news.title, { body: news.text, tag: `forge-${news.sessionId}-${news.kind}` });
}
