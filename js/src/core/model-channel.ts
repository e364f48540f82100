/** The widget's comm as a feed, a control and a source of detail: what a cell uses without a server. */

import type { Feed, Sink } from "./feed";
import { isEnvelope, type Ack, type Command, type SeriesBlock } from "./wire";

/** The part of the anywidget model that is used here. */
export interface AnyModel {
  get(name: string): unknown;
  on(event: string, callback: (...args: never[]) => void): void;
  off(event: string, callback: (...args: never[]) => void): void;
  send(content: unknown): void;
}

/** A kernel busy in a cell answers only when the cell ends; do not wait for that. */
const ANSWER_MS = 20_000;

export class ModelChannel implements Feed {
  private readonly sinks = new Set<Sink>();
  private readonly waiting = new Map<string, (data: Record<string, unknown>) => void>();
  private counter = 0;

  constructor(private readonly model: AnyModel) {}

  attach(sink: Sink): () => void {
    if (this.sinks.size === 0) this.model.on("msg:custom", this.onMessage);
    this.sinks.add(sink);
    sink.link("connecting", this);
    this.resubscribe(sink);
    return () => {
      this.sinks.delete(sink);
      if (this.sinks.size === 0) this.model.off("msg:custom", this.onMessage);
    };
  }

  resubscribe(sink: Sink): void {
    const after = sink.cursor();
    const data: Record<string, unknown> = { sessionId: sink.sessionId };
    if (after !== undefined) data.after = after;
    this.model.send({ event: "subscribe_session", data });
  }

  alive(): void {
    this.model.send({ event: "alive", data: {} });
  }

  async control(command: Command, args: Record<string, unknown> = {}): Promise<Ack> {
    return (await this.ask("control", { command, args })) as unknown as Ack;
  }

  async series(metrics: string[], from: number, to: number, points: number, x: "step" | "time"): Promise<SeriesBlock[]> {
    const answer = await this.ask("series", { metrics, from, to, points, x });
    return Array.isArray(answer.series) ? (answer.series as SeriesBlock[]) : [];
  }

  private ask(event: string, data: Record<string, unknown>): Promise<Record<string, unknown>> {
    const id = `${Date.now().toString(36)}-${(this.counter++).toString(36)}`;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiting.delete(id);
        reject(new Error("not yet acknowledged"));
      }, ANSWER_MS);
      this.waiting.set(id, (answer) => {
        clearTimeout(timer);
        this.waiting.delete(id);
        resolve(answer);
      });
      this.model.send({ event, data: { id, ...data } });
    });
  }

  private readonly onMessage = (content: unknown): void => {
    if (!isEnvelope(content)) return;
    const id = content.data.id ?? content.data.commandId;
    if (typeof id === "string") this.waiting.get(id)?.(content.data);
    if (content.event === "series" || content.event === "plotly" || content.event === "card") return;
    for (const sink of this.sinks) {
      sink.link("live", this);
      sink.receive(content, this);
    }
  };
}
