import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Api } from "../src/core/api";
import { Ladder } from "../src/core/ladder";
import { SessionClient } from "../src/core/session-client";
import { CONNECT_MS, SILENCE_MS, streamUrl } from "../src/core/ws-channel";
import { backoff } from "../src/core/connection";
import { block, statusMessage, update } from "./fixtures";
import type { Envelope } from "../src/core/wire";

class FakeSocket {
  readyState = 0;
  sent: Envelope[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: (() => void) | null = null;

  send(text: string): void {
    this.sent.push(JSON.parse(text) as Envelope);
  }
  close(): void {
    this.readyState = 3;
    this.onclose?.();
  }
  accept(): void {
    this.readyState = 1;
    this.onopen?.();
  }
  say(message: Envelope): void {
    this.onmessage?.({ data: JSON.stringify(message) });
  }
}

function json(data: unknown, status = 200, code = ""): Response {
  return new Response(JSON.stringify(status === 200 ? { success: true, data } : { success: false, error: "no", code }), { status });
}

describe("ladder", () => {
  let sockets: FakeSocket[];
  let requests: string[];
  let server: (url: string) => Response | Promise<Response>;
  let ladder: Ladder;
  let client: SessionClient;
  const latest = (): FakeSocket => sockets[sockets.length - 1];

  beforeEach(() => {
    vi.useFakeTimers();
    sockets = [];
    requests = [];
    server = () => json({ sessionId: "s1", seq: 0, messages: [] });
    const api = new Api("/base/", (input) => {
      requests.push(input as string);
      return Promise.resolve(server(input as string));
    });
    const factory = (): WebSocket => {
      const socket = new FakeSocket();
      sockets.push(socket);
      return socket as unknown as WebSocket;
    };
    ladder = new Ladder(api, factory, () => 0.5);
    client = new SessionClient("s1");
    client.attach(ladder);
  });
  afterEach(() => {
    client.dispose();
    vi.useRealTimers();
  });

  it("goes live over one socket, shared by every session on the page", () => {
    expect(client.connection).toBe("connecting");
    latest().accept();
    const other = new SessionClient("s2");
    other.attach(ladder);
    expect(sockets).toHaveLength(1);
    expect(latest().sent.map((m) => [m.event, m.data.sessionId])).toEqual([["subscribe_session", "s1"], ["subscribe_session", "s2"]]);
    expect(client.connection).toBe("live");
    other.dispose();
    expect(latest().sent[2]).toEqual({ event: "unsubscribe_session", data: { sessionId: "s2" } });
  });

  it("falls to long polling when the socket is refused, and climbs back with its cursor", async () => {
    server = (url) =>
      url.includes("after=")
        ? new Promise(() => undefined)
        : json({ sessionId: "s1", seq: 2, messages: [statusMessage({ seq: 2 }), update(0, 2, [block([[1, 1, 1], [2, 2, 1]])])] });
    latest().close();
    await vi.advanceTimersByTimeAsync(150);
    expect(client.connection).toBe("polling");
    expect(client.cursor()).toBe(2);
    expect(requests[0]).toBe("/base/api/training/poll/s1");
    expect(requests[1]).toBe("/base/api/training/poll/s1?after=2&wait=15");
    await vi.advanceTimersByTimeAsync(1000);
    expect(sockets).toHaveLength(2);
    latest().accept();
    expect(client.connection).toBe("live");
    expect(latest().sent[0].data).toEqual({ sessionId: "s1", after: 2 });
    latest().say(update(2, 3, [block([[3, 3, 1]])]));
    expect(client.cursor()).toBe(3);
    const before = requests.length;
    await vi.advanceTimersByTimeAsync(20_000);
    expect(requests.length).toBe(before);
  });

  it("is offline when neither passes, tries again ever more slowly, and recovers", async () => {
    server = () => json(null, 503);
    latest().close();
    await vi.advanceTimersByTimeAsync(10);
    expect(client.connection).toBe("offline");
    const times: number[] = [];
    let seen = sockets.length;
    for (let t = 0; t < 60_000; t += 100) {
      await vi.advanceTimersByTimeAsync(100);
      if (sockets.length > seen) {
        seen = sockets.length;
        times.push(t);
        latest().close();
      }
    }
    const pauses = times.slice(1).map((t, i) => t - times[i]);
    expect(pauses.every((p, i) => i === 0 || p >= pauses[i - 1] - 200)).toBe(true);
    expect(Math.max(...pauses)).toBeGreaterThan(8000);
    server = () => json({ sessionId: "s1", seq: 0, messages: [] });
    await vi.advanceTimersByTimeAsync(50_000);
    expect(client.connection).toBe("polling");
    for (seen = sockets.length; sockets.length === seen; ) await vi.advanceTimersByTimeAsync(100);
    latest().accept();
    expect(client.connection).toBe("live");
  });

  it("gives up a socket that never opens, and one that falls silent", async () => {
    await vi.advanceTimersByTimeAsync(CONNECT_MS + 50);
    expect(client.connection).toBe("polling");
    await vi.advanceTimersByTimeAsync(1000);
    latest().accept();
    expect(client.connection).toBe("live");
    latest().say({ event: "heartbeat", data: { time: 1 } });
    await vi.advanceTimersByTimeAsync(SILENCE_MS - 100);
    expect(client.connection).toBe("live");
    await vi.advanceTimersByTimeAsync(200);
    expect(client.connection).toBe("polling");
  });

  it("says that the server does not know the session", async () => {
    server = () => json(null, 404, "unknown_session");
    latest().close();
    await vi.advanceTimersByTimeAsync(50);
    expect(client.missing).toBe(true);
    expect(client.connection).not.toBe("offline");
  });

  it("takes a proxy's 404 for an absent server, not for an absent session", async () => {
    server = () => new Response("<html>", { status: 404 });
    latest().close();
    await vi.advanceTimersByTimeAsync(50);
    expect(client.missing).toBe(false);
    expect(client.connection).toBe("offline");
  });

  it("rests when it is told that it asks too often, and is not offline", async () => {
    latest().close();
    await vi.advanceTimersByTimeAsync(50);
    expect(client.connection).toBe("polling");
    server = () => json(null, 429, "too_many_requests");
    await vi.advanceTimersByTimeAsync(1000);
    const before = requests.length;
    await vi.advanceTimersByTimeAsync(2100);
    expect(requests.length - before).toBeLessThanOrEqual(3);
    expect(requests.length - before).toBeGreaterThan(0);
    expect(client.connection).toBe("polling");
  });

  it("closes the socket when nobody is left and opens a new one for the next", () => {
    latest().accept();
    const socket = latest();
    client.dispose();
    expect(socket.readyState).toBe(3);
    client = new SessionClient("s1");
    client.attach(ladder);
    expect(sockets).toHaveLength(2);
  });
});

describe("addresses and pauses", () => {
  it("speaks wss beside https", () => {
    expect(streamUrl("/user/ada/", { href: "https://hub/x" })).toBe("wss://hub/user/ada/api/training/stream");
    expect(streamUrl("http://h:1/", { href: "http://h:1/" })).toBe("ws://h:1/api/training/stream");
  });

  it("doubles, jitters and is capped", () => {
    expect(backoff(0, () => 0)).toBe(500);
    expect(backoff(3, () => 0.5)).toBe(8000);
    expect(backoff(50, () => 1)).toBe(45_000);
  });

  it("sends the XSRF cookie back", async () => {
    document.cookie = "_xsrf=2|abc";
    let seen: string | null = null;
    const api = new Api("/", (_, init) => {
      seen = new Headers(init?.headers).get("X-XSRFToken");
      return Promise.resolve(json({ commandId: "c", command: "stop", ok: true, message: "" }));
    });
    expect((await api.control("s", "stop")).ok).toBe(true);
    expect(seen).toBe("2|abc");
  });
});
