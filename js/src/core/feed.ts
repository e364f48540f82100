/** What a transport is to a session client, and a client to a transport. */

import type { Envelope } from "./wire";

/** What a transport can know by itself. `stale` is the client's judgement. */
export type Link = "connecting" | "live" | "polling" | "offline";

export interface Sink {
  readonly sessionId: string;
  /** Where to go on from; undefined when nothing has been received yet. */
  cursor(): number | undefined;
  receive(message: Envelope, feed: Feed): void;
  /** Something arrived, if only a heartbeat. */
  heard(): void;
  link(state: Link, feed: Feed): void;
}

export interface Feed {
  /** Starts delivering to the sink; the returned function stops it. */
  attach(sink: Sink): () => void;
  /** Asks again for everything after the sink's cursor. */
  resubscribe(sink: Sink): void;
}
