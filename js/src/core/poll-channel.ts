/** Long polling for one sink: the same messages as the stream, where WebSockets do not pass. */

import { ApiError, type Api } from "./api";
import { backoff } from "./connection";
import type { Feed, Sink } from "./feed";
import { ALL_SESSIONS, isUnknownSession } from "./wire";

export const WAIT_S = 15;
/** The list has no long poll; this is how often it is read instead. */
export const LIST_EVERY_MS = 2000;
/** Rest after the server said that we ask too often. */
export const TOO_FAST_MS = 1000;

export class PollChannel {
  private readonly abort = new AbortController();

  constructor(
    private readonly api: Api,
    private readonly sink: Sink,
    private readonly feed: Feed,
  ) {
    void this.run();
  }

  stop(): void {
    this.abort.abort();
  }

  private stopped(): boolean {
    return this.abort.signal.aborted;
  }

  private async run(): Promise<void> {
    let failures = 0;
    while (!this.stopped()) {
      let pause = 0;
      try {
        pause = await this.once();
        failures = 0;
      } catch (error) {
        if (this.stopped()) return;
        if (error instanceof ApiError && isUnknownSession(error)) {
          const { message, code } = error;
          this.sink.receive({ event: "error", data: { sessionId: this.sink.sessionId, message, code } }, this.feed);
          pause = 10_000;
        } else if (error instanceof ApiError && error.status === 429) {
          pause = TOO_FAST_MS; // the server answers: that is not being offline
        } else {
          this.sink.link("offline", this.feed);
          pause = backoff(failures++);
        }
      }
      if (pause > 0) await sleep(pause, this.abort.signal);
    }
  }

  /** One request; answers how long to rest after it. */
  private async once(): Promise<number> {
    if (this.sink.sessionId === ALL_SESSIONS) {
      const sessions = await this.api.sessions();
      if (this.stopped()) return 0;
      this.sink.link("polling", this.feed);
      const data = { sessionId: ALL_SESSIONS, sessions };
      this.sink.receive({ event: "session_list", data }, this.feed);
      return LIST_EVERY_MS;
    }
    const before = this.sink.cursor();
    const started = Date.now();
    const messages = await this.api.poll(this.sink.sessionId, before, WAIT_S, this.abort.signal);
    if (this.stopped()) return 0;
    this.sink.link("polling", this.feed);
    this.sink.heard();
    for (const message of messages) this.sink.receive(message, this.feed);
    // A server that answers at once with nothing new must not be asked in a tight loop.
    const moved = this.sink.cursor() !== before;
    return moved || Date.now() - started > 1000 ? 100 : 1000;
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    const stop = (): void => {
      clearTimeout(timer);
      resolve();
    };
    signal.addEventListener("abort", stop, { once: true });
  });
}
