/**
 * The way down and up again: WebSocket, else long poll, else offline. One per
 * server and page, shared by every card and by the list.
 */

import { Api } from "./api";
import { backoff } from "./connection";
import type { Feed, Sink } from "./feed";
import { PollChannel } from "./poll-channel";
import { ALL_SESSIONS, type Envelope } from "./wire";
import { WsChannel, streamUrl, type SocketFactory } from "./ws-channel";

export class Ladder implements Feed {
  private readonly sinks = new Set<Sink>();
  private readonly polls = new Map<Sink, PollChannel>();
  private readonly ws: WsChannel;
  private attempt = 0;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private state: "idle" | "connecting" | "live" | "down" = "idle";

  constructor(
    private readonly api: Api,
    factory?: SocketFactory,
    private readonly random: () => number = Math.random,
  ) {
    this.ws = new WsChannel(
      streamUrl(api.baseUrl),
      { open: () => this.opened(), message: (m) => this.deliver(m), closed: () => this.lost() },
      factory,
    );
  }

  attach(sink: Sink): () => void {
    this.sinks.add(sink);
    if (this.state === "idle") this.connect();
    else if (this.state === "live") this.subscribe(sink);
    else if (this.state === "down") this.poll(sink);
    if (this.state === "connecting") sink.link("connecting", this);
    return () => this.remove(sink);
  }

  resubscribe(sink: Sink): void {
    // A poll always asks from the cursor: nothing to do there.
    if (this.state === "live") this.subscribe(sink);
  }

  private connect(): void {
    if (this.state !== "down") this.state = "connecting";
    this.ws.connect();
  }

  private opened(): void {
    this.state = "live";
    this.attempt = 0;
    this.stopPolls();
    this.sinks.forEach((sink) => this.subscribe(sink));
  }

  private lost(): void {
    if (this.sinks.size === 0) {
      this.state = "idle";
      return;
    }
    const first = this.state !== "down";
    this.state = "down";
    if (first) this.sinks.forEach((sink) => this.poll(sink));
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.connect(), backoff(this.attempt++, this.random));
  }

  private subscribe(sink: Sink): void {
    const after = sink.cursor();
    sink.link("live", this);
    const data: Record<string, unknown> = { sessionId: sink.sessionId };
    if (after !== undefined) data.after = after;
    this.ws.send("subscribe_session", data);
  }

  private poll(sink: Sink): void {
    if (!this.polls.has(sink)) this.polls.set(sink, new PollChannel(this.api, sink, this));
  }

  private deliver(message: Envelope): void {
    const id = message.data.sessionId;
    for (const sink of this.sinks) {
      if (message.event === "heartbeat" || id === undefined) sink.heard();
      else if (sink.sessionId === id || sink.sessionId === ALL_SESSIONS) sink.receive(message, this);
    }
  }

  private remove(sink: Sink): void {
    this.sinks.delete(sink);
    this.polls.get(sink)?.stop();
    this.polls.delete(sink);
    // Another card may still follow the same session over this socket.
    const shared = [...this.sinks].some((other) => other.sessionId === sink.sessionId);
    if (this.state === "live" && !shared) this.ws.send("unsubscribe_session", { sessionId: sink.sessionId });
    if (this.sinks.size === 0) this.rest();
  }

  private rest(): void {
    clearTimeout(this.retry);
    this.stopPolls();
    this.ws.close();
    this.state = "idle";
    this.attempt = 0;
  }

  private stopPolls(): void {
    this.polls.forEach((poll) => poll.stop());
    this.polls.clear();
  }
}

const ladders = new Map<string, Ladder>();

/** The page's one ladder to this server. */
export function sharedLadder(baseUrl: string): Ladder {
  let ladder = ladders.get(baseUrl);
  if (ladder === undefined) {
    ladder = new Ladder(new Api(baseUrl));
    ladders.set(baseUrl, ladder);
  }
  return ladder;
}
