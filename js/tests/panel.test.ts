import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { differing } from "../src/core/card-config";
import { buildComparison, commonMetrics } from "../src/core/compare-figure";
import type { Feed } from "../src/core/feed";
import { NewsDesk, type News } from "../src/core/news";
import { SessionClient } from "../src/core/session-client";
import { SessionList } from "../src/core/session-list";
import { readTheme } from "../src/core/theme";
import type { Mark, SessionStatus } from "../src/core/wire";
import { ManualFeed, block, model, status, statusMessage, update } from "./fixtures";

const noFeed: Feed = { attach: () => () => undefined, resubscribe: () => undefined };
const say = (over: Partial<SessionStatus>) => ({ event: "session_status", data: status(over) as never });

describe("ticked sessions", () => {
  let list: SessionList;
  const compare = vi.fn<(ids: string[]) => void>();
  const remove = vi.fn<(id: string) => Promise<void>>(() => Promise.resolve());
  const frame = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 40));
  const button = (label: string): HTMLButtonElement => [...list.node.querySelectorAll("button")].find((b) => b.textContent === label)!;
  const tick = (name: string): void => {
    const box = list.node.querySelector<HTMLInputElement>(`[aria-label="Tick ${name}"]`)!;
    box.checked = !box.checked;
    box.dispatchEvent(new Event("change"));
  };

  beforeEach(async () => {
    compare.mockClear();
    remove.mockReset().mockResolvedValue();
    list = new SessionList(noFeed, () => undefined, undefined, { compare, remove });
    for (const [id, state] of [["a", "completed"], ["b", "failed"], ["c", "running"]] as const) list.receive(say({ sessionId: id, name: id, status: state }));
    await frame();
  });
  afterEach(() => list.dispose());

  it("compares two and more", () => {
    tick("a");
    expect(button("Compare").disabled).toBe(true);
    tick("c");
    button("Compare").click();
    expect(compare).toHaveBeenCalledWith(["a", "c"]);
  });

  it("deletes only after a confirmation, and never what is running", async () => {
    tick("a");
    tick("b");
    button("Delete").click();
    expect(remove).not.toHaveBeenCalled();
    expect(list.node.textContent).toContain("Delete 2 sessions and all records?");
    button("Keep").click();
    button("Delete").click();
    button("Delete for good").click();
    await frame();
    expect(remove.mock.calls.map((c) => c[0])).toEqual(["a", "b"]);
    tick("c");
    expect(button("Delete").disabled).toBe(true);
  });

  it("says why a session could not be deleted, and keeps it ticked", async () => {
    remove.mockRejectedValue(new Error("session 'a' is running; stop it before deleting it"));
    tick("a");
    button("Delete").click();
    button("Delete for good").click();
    await frame();
    expect(list.node.querySelector(".forge-selection")!.textContent).toContain("is running; stop it");
    expect(list.node.querySelector<HTMLInputElement>('[aria-label="Tick a"]')!.checked).toBe(true);
  });
});

describe("comparison", () => {
  it("names the settings that differ, those of a training first", () => {
    const configs = [
      { note: "a", lr: 0.001, batch_size: 32, model: { width: 128 } },
      { note: "b", lr: 0.003, batch_size: 32, model: { width: 128 } },
      { note: "b", lr: 0.003, batch_size: 32, model: { width: 64 }, optimizer: "muon" },
    ];
    expect(differing(configs)).toEqual([
      ["lr 1e-3", "optimizer \u2013", "note a", "model.width 128"],
      ["lr 3e-3", "optimizer \u2013", "note b", "model.width 128"],
      ["lr 3e-3", "muon", "note b", "model.width 64"],
    ]);
    expect(differing([configs[0], configs[0]])).toEqual([[], []]);
    expect(differing([null, configs[0], configs[1]]).map((own) => own.length)).toEqual([0, 2, 2]);
    expect(differing([])).toEqual([]);
  });

  it("draws one metric of several sessions, each from its own beginning", () => {
    const clients = [100, 5000].map((start, i) => {
      const client = new SessionClient(`s${i}`);
      const feed = new ManualFeed();
      const time = [start + 10, start + 20];
      client.receive({ ...statusMessage({ sessionId: `s${i}`, name: `run ${i}`, startTime: start, metricNames: ["lr", "loss"] }) }, feed);
      client.receive(update(0, 2, [{ ...block([[1, 1, 3], [2, 2, 2]]), time }], { sessionId: `s${i}` }), feed);
      return client;
    });
    expect(commonMetrics(clients)).toEqual(["loss", "lr"]);
    const view = { clients, hidden: new Set<string>(), metric: "loss", x: "time" as const, logY: true, smoothing: 0, zoom: null, theme: readTheme(document.createElement("div")), width: 600 };
    const data = buildComparison(view).data as { name: string; x: number[] }[];
    expect(data.map((t) => [t.name, t.x])).toEqual([["run 0", [10, 20]], ["run 1", [10, 20]]]);
    expect(buildComparison({ ...view, hidden: new Set(["s0"]) }).data).toHaveLength(1);
    clients.forEach((client) => client.dispose());
  });
});

describe("news", () => {
  it("tells what happened since we came, once", async () => {
    vi.useFakeTimers();
    const told: News[] = [];
    const marks: Mark[] = [{ seq: 4, time: 1, step: 1, model: 0, event: "alert", data: { message: "old" } }];
    const desk = new NewsDesk(noFeed, { status: () => Promise.resolve(status({ sessionId: "r", marks: [...marks] })) }, (news) => told.push(news));
    desk.receive(say({ sessionId: "old", status: "failed" }));
    desk.receive({ event: "session_list", data: { sessions: [status({ sessionId: "r", name: "run", models: [model()] })] } });
    await vi.advanceTimersByTimeAsync(10_100);
    expect(told).toEqual([]);
    marks.push({ seq: 9, time: 1, step: 2, model: 0, event: "alert", data: { message: "loss is NaN" } });
    // The list tells this one.
    marks.push({ seq: 10, time: 1, step: 2, model: 0, event: "alert", data: { kind: "grokking", message: "held-out data began to be understood" } });
    await vi.advanceTimersByTimeAsync(20_100);
    for (let i = 0; i < 2; i++) desk.receive(say({ sessionId: "r", name: "run", models: [model({ name: "net", grokOnsetStep: 70 })] }));
    for (let i = 0; i < 2; i++) desk.receive(say({ sessionId: "r", name: "run", status: "failed", error: "boom" }));
    expect(told.map((n) => [n.kind, n.text])).toEqual([["alert", "loss is NaN"], ["grokking", "net began to generalize at step 70"], ["failed", "Training failed: boom"]]);
    desk.dispose();
    vi.useRealTimers();
  });

  it("tells the first alert of a session that began after us", async () => {
    vi.useFakeTimers();
    const told: News[] = [];
    const marks: Mark[] = [{ seq: 2, time: 1, step: 1, model: 0, event: "alert", data: { message: "loss is NaN" } }];
    const desk = new NewsDesk(noFeed, { status: () => Promise.resolve(status({ sessionId: "new", marks })) }, (news) => told.push(news));
    desk.receive(say({ sessionId: "new", name: "new", startTime: Date.now() / 1000 + 1 }));
    await vi.advanceTimersByTimeAsync(20_100);
    expect(told.map((n) => n.text)).toEqual(["loss is NaN"]);
    desk.dispose();
    vi.useRealTimers();
  });
});
