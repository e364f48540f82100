import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { mayFollow } from "../src/core/connection";
import { RESYNC_AFTER_MS, SessionClient } from "../src/core/session-client";
import { ManualFeed, block, metrics, model, prng, status, statusMessage, update } from "./fixtures";

function steps(client: SessionClient): number[] {
  return client.series.curve(0, "loss")?.points.step ?? [];
}

describe("cursor", () => {
  let client: SessionClient;
  let feed: ManualFeed;

  beforeEach(() => {
    vi.useFakeTimers();
    client = new SessionClient("s1");
    feed = new ManualFeed();
    client.attach(feed);
    client.receive(statusMessage({ seq: 2 }), feed);
    client.receive(update(0, 2, [block([[1, 10, 1], [2, 20, 2]])]), feed);
  });
  afterEach(() => {
    client.dispose();
    vi.useRealTimers();
  });

  it("ignores a message it has already applied", () => {
    client.receive(update(0, 2, [block([[1, 10, 1], [2, 20, 2]])], { metrics: metrics({ loss: 9 }) }), feed);
    expect(steps(client)).toEqual([10, 20]);
    expect(client.cursor()).toBe(2);
    expect(client.status?.metrics?.loss).toBe(1.5);
  });

  it("takes only the new rows of a message that overlaps", () => {
    client.receive(update(0, 3, [block([[1, 10, 1], [2, 20, 2], [3, 30, 3]])]), feed);
    expect(steps(client)).toEqual([10, 20, 30]);
  });

  it("knows a metric that is recorded for the first time while it follows", () => {
    client.receive(update(2, 3, [block([[3, 30, 2]], { columns: ["grad_norm"] })]), feed);
    expect(client.status!.metricNames).toEqual(["loss", "grad_norm"]);
  });

  it("takes a model's step, loss and grokking from the metrics, which alone tell them at each step", () => {
    client.receive(statusMessage({ seq: 2, models: [model({ loss: 9 }), model({ index: 1, loss: 9 })], totalModels: 2 }), feed);
    client.receive(update(2, 3, [block([[3, 30, 2]])], { metrics: metrics({ currentModel: 2, currentStep: 30, loss: 2, grokProgress: 40 }) }), feed);
    expect(client.status!.models.map((m) => [m.step, m.loss, m.grokProgress])).toEqual([[0, 9, null], [30, 2, 40]]);
  });

  it("asks once for the missing records on a gap and applies nothing out of order", () => {
    client.receive(update(4, 5, [block([[5, 50, 5]])]), feed);
    client.receive(update(5, 6, [block([[6, 60, 6]])]), feed);
    expect(feed.asked).toEqual([2]);
    expect(steps(client)).toEqual([10, 20]);
    client.receive(update(2, 6, [block([[3, 30, 3], [4, 40, 4], [5, 50, 5], [6, 60, 6]])]), feed);
    expect(steps(client)).toEqual([10, 20, 30, 40, 50, 60]);
  });

  it("repeats an unanswered request", () => {
    client.receive(update(4, 5, []), feed);
    vi.advanceTimersByTime(RESYNC_AFTER_MS + 1100);
    expect(feed.asked).toEqual([2, 2]);
  });

  it("knows when a transport does not hear it, until the missing records come", () => {
    client.receive(update(4, 5, []), feed);
    expect(client.unanswered).toBe(false);
    vi.advanceTimersByTime(RESYNC_AFTER_MS + 1100);
    client.receive(update(5, 6, []), feed);
    expect(client.unanswered).toBe(true);
    client.receive(update(2, 6, [block([[3, 30, 3], [4, 40, 4], [5, 50, 5], [6, 60, 6]])]), feed);
    expect(client.unanswered).toBe(false);
  });

  it("is not led astray by a message it has already applied", () => {
    const before = client.metricsAt;
    client.receive(update(4, 5, []), feed);
    vi.advanceTimersByTime(500);
    // It neither counts as news nor calls off the request for the missing records.
    client.receive(update(0, 2, [block([[1, 10, 1], [2, 20, 2]])]), feed);
    expect(client.metricsAt).toBe(before);
    vi.advanceTimersByTime(RESYNC_AFTER_MS + 1100);
    expect(feed.asked).toEqual([2, 2]);
  });

  it("fetches records that a status announced and no update brought", () => {
    client.receive(statusMessage({ seq: 9, status: "interrupted" }), feed);
    expect(client.status?.status).toBe("interrupted");
    vi.advanceTimersByTime(6000);
    expect(feed.asked).toEqual([2]);
  });

  it("lets the records of a dead writer not revive it", () => {
    const late = new SessionClient("s1");
    late.receive(statusMessage({ seq: 2, status: "interrupted" }), feed);
    late.receive(update(0, 2, [block([[1, 10, 1], [2, 20, 2]])], { status: "running" }), feed);
    expect(late.status?.status).toBe("interrupted");
    late.receive(update(2, 3, [block([[3, 30, 3]])], { status: "running" }), feed);
    expect(late.status?.status).toBe("running");
    late.dispose();
  });

  it("starts anew when another run was recorded under the same id", () => {
    client.receive(statusMessage({ seq: 1, startTime: 99 }), feed);
    expect(client.cursor()).toBeUndefined();
    client.receive(update(0, 1, [block([[1, 7, 7]])]), feed);
    expect(steps(client)).toEqual([7]);
  });

  it("keeps the newer numbers when a status was overtaken on its way", () => {
    client.receive(statusMessage({ seq: 1, status: "created" }), feed);
    expect(client.status?.status).toBe("running");
    expect(client.cursor()).toBe(2);
  });

  it("replaces a previewed snapshot as a whole", () => {
    const other = new SessionClient("s1");
    const data = update(0, 40, [block([[40, 400, 4]], { decimated: true })]).data;
    other.preview({ status: status({ seq: 40 }), update: data as never });
    expect(steps(other)).toEqual([400]);
    expect(other.cursor()).toBeUndefined();
    other.receive(statusMessage({ seq: 41 }), feed);
    other.receive(update(0, 41, [block([[40, 400, 4], [41, 410, 4]])]), feed);
    expect(steps(other)).toEqual([400, 410]);
    other.dispose();
  });
});

describe("exactly once", () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it.each(Array.from({ length: 40 }, (_, i) => i + 1))("under loss, repetition, delay and reconnects, seed %i", (seed) => {
    const random = prng(seed);
    const total = 60 + Math.floor(random() * 60);
    const rows = (from: number, to: number): [number, number, number][] =>
      Array.from({ length: to - from }, (_, i) => [from + i + 1, (from + i + 1) * 10, from + i]);
    const client = new SessionClient("s1");
    const feed = new ManualFeed();
    client.attach(feed);
    client.receive(statusMessage({ seq: 0 }), feed);
    client.receive(update(0, 0, []), feed);
    const delayed: ReturnType<typeof update>[] = [];
    let sent = 0;
    const answer = (): void => {
      if (feed.asked.length === 0) return;
      feed.asked = [];
      // The answer itself may be lost on the way.
      if (random() < 0.3) return;
      const after = client.cursor() ?? 0;
      client.receive(statusMessage({ seq: sent }), feed);
      client.receive(update(after, sent, [block(rows(after, sent))]), feed);
    };
    while (sent < total) {
      const to = Math.min(total, sent + 1 + Math.floor(random() * 4));
      const message = update(sent, to, [block(rows(sent, to))]);
      sent = to;
      const fate = random();
      if (fate < 0.15) delayed.push(message);
      else if (fate >= 0.3) client.receive(message, feed);
      if (random() < 0.15) client.receive(message, feed);
      if (random() < 0.2 && delayed.length > 0) client.receive(delayed.splice(Math.floor(random() * delayed.length), 1)[0], feed);
      if (random() < 0.05) {
        client.link("offline", feed);
        client.link("live", feed);
        feed.asked.push(client.cursor());
      }
      answer();
      vi.advanceTimersByTime(100);
    }
    for (let i = 0; i < 60 && client.cursor() !== total; i++) {
      client.receive(statusMessage({ seq: total }), feed);
      vi.advanceTimersByTime(2500);
      answer();
    }
    expect(client.series.curve(0, "loss")!.points.seq).toEqual(Array.from({ length: total }, (_, i) => i + 1));
    client.dispose();
  });
});

describe("connection", () => {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => vi.useRealTimers());

  it("goes stale after five silent seconds of a running session, and live with the next message", () => {
    const client = new SessionClient("s1");
    const feed = new ManualFeed();
    client.attach(feed);
    client.receive(statusMessage(), feed);
    expect(client.connection).toBe("live");
    vi.advanceTimersByTime(4500);
    expect(client.connection).toBe("live");
    vi.advanceTimersByTime(1600);
    expect(client.connection).toBe("stale");
    client.heard();
    expect(client.connection).toBe("live");
    client.dispose();
  });

  it("does not call a finished session stale", () => {
    const client = new SessionClient("s1");
    const feed = new ManualFeed();
    client.attach(feed);
    client.receive(statusMessage({ status: "completed" }), feed);
    vi.advanceTimersByTime(20_000);
    expect(client.connection).toBe("live");
    client.dispose();
  });

  it("reports the best of its transports", () => {
    const client = new SessionClient("s1");
    const [a, b] = [new ManualFeed(), new ManualFeed()];
    client.attach(a);
    client.attach(b);
    client.link("offline", a);
    expect(client.connection).toBe("live");
    client.link("offline", b);
    expect(client.connection).toBe("offline");
    client.link("polling", b);
    expect(client.connection).toBe("polling");
    client.dispose();
  });

  it("knows which states cannot follow", () => {
    expect(mayFollow("offline", "stale")).toBe(false);
    expect(mayFollow("connecting", "stale")).toBe(false);
    expect(mayFollow("stale", "live")).toBe(true);
  });
});
