import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { baseUrlOf, withoutToken } from "../src/dashboard/index";
import type { Feed } from "../src/core/feed";
import { compact, count, duration, percent, setting, value } from "../src/core/format";
import { loadPlotly } from "../src/core/plotly-loader";
import { SessionList } from "../src/core/session-list";
import { isAlive } from "../src/labextension/fallback";
import * as cell from "../src/widget/cell";
import widget from "../src/widget/index";
import { block, metrics, status, statusMessage, update } from "./fixtures";

const noFeed: Feed = { attach: () => () => undefined, resubscribe: () => undefined };

describe("page", () => {
  it("finds its base url and hides the token", () => {
    expect(baseUrlOf("/forge")).toBe("/");
    expect(baseUrlOf("/user/ada/forge")).toBe("/user/ada/");
    expect(baseUrlOf("/user/forge/forge/")).toBe("/user/forge/");
    expect(withoutToken("http://h/forge?token=abc&session=s")).toBe("/forge?session=s");
    expect(withoutToken("http://h/forge?session=s")).toBeNull();
  });
});

describe("format", () => {
  it("writes numbers as a reader of curves does", () => {
    expect([0.00071, 0.0112, 2.3456, 12.34, null, undefined].map((x) => value(x))).toEqual(["7.1e-4", "0.0112", "2.346", "12.3", "\u2013", "\u2013"]);
    expect([value(null, "NaN"), value(null, "-Infinity")]).toEqual(["NaN", "\u2212\u221e"]);
    expect([226_000, 25_100_000, 42, 0.5].map(compact)).toEqual(["226k", "25.1M", "42", "0.5"]);
    expect([0, 59, 574, 3720, 90_000].map(duration)).toEqual(["0s", "59s", "9m 34s", "1h 02m", "1d 01h"]);
    expect([0, 4.25, 99.99, 100].map(percent)).toEqual(["0%", "4.3%", "99%", "100%"]);
    expect([1e-3, 0.1, 32, "adamw", [1, 2]].map(setting)).toEqual(["1e-3", "0.1", "32", "adamw", "[1,2]"]);
    expect(count(23980)).toBe("23,980");
  });
});

describe("session list", () => {
  let list: SessionList;
  const opened: string[] = [];
  const names = (): string[] => [...list.node.querySelectorAll<HTMLElement>(".forge-group")].filter((g) => !g.hidden).map((g) => `${g.querySelector(".forge-group-title")!.textContent}: ${[...g.querySelectorAll(".forge-row-name")].map((n) => n.textContent).join(", ")}`);
  const frame = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 40));

  beforeEach(() => {
    list = new SessionList(noFeed, (id) => opened.push(id));
    for (const [id, state, start] of [["a", "completed", 1], ["b", "running", 2], ["c", "running", 3], ["d", "failed", 4]] as const)
      list.receive({ event: "session_status", data: status({ sessionId: id, name: `run ${id}`, status: state, startTime: start }) as never });
  });
  afterEach(() => list.dispose());

  it("groups by state, running first, newest first, and opens on click", async () => {
    await frame();
    expect(names()).toEqual(["Running: run c, run b", "Finished: run a", "Ended early: run d"]);
    list.node.querySelector<HTMLButtonElement>(".forge-row")!.click();
    expect(opened).toEqual(["c"]);
  });

  it("moves, updates and removes rows, and searches", async () => {
    list.receive({ event: "session_status", data: status({ sessionId: "c", name: "run c", status: "completed", startTime: 3 }) as never });
    list.receive({ event: "session_status", data: { sessionId: "d", status: "deleted" } });
    list.receive({ event: "progress_update", data: { ...update(0, 9, []).data, sessionId: "b", metrics: metrics({ loss: 0.5 }) } });
    await frame();
    expect(names()).toEqual(["Running: run b", "Finished: run c, run a"]);
    expect(list.node.querySelector(".forge-row-detail")!.textContent).toContain("loss 0.500");
    const search = list.node.querySelector("input")!;
    search.value = "run A";
    search.dispatchEvent(new Event("input"));
    expect(names()).toEqual(["Finished: run a"]);
  });
});

describe("stand-in for a dead widget", () => {
  const output = (html: string): HTMLElement => {
    const node = document.createElement("div");
    node.innerHTML = `<div class="jp-OutputArea-output">${html}</div>`;
    return node;
  };

  it("knows a dead widget from a live one and from a picture", () => {
    expect(isAlive(output("<pre>Error displaying widget: model not found</pre>"))).toBe(false);
    expect(isAlive(output("<div>Loading widget...</div>"))).toBe(false);
    expect(isAlive(output('<section class="jp-ForgeCard">Loading widget...</section>'))).toBe(true);
    expect(isAlive(output("<img>"))).toBe(true);
    expect(isAlive(output('<div class="jp-ForgeFallback-dead">Loading widget...</div><div class="jp-ForgeFallback"><section class="jp-ForgeCard"></section></div>'))).toBe(false);
  });
});

describe("widget", () => {
  it("paints from the snapshot at once, asks for what came after, and can be rendered twice", async () => {
    vi.stubGlobal("__card-test.mjs", Promise.resolve(cell));
    vi.stubGlobal("__forgePlotly", Promise.resolve({ default: { react: () => Promise.resolve(), purge: () => undefined, Plots: {} } }));
    const sent: { event: string; data: Record<string, unknown> }[] = [];
    const listeners = new Set<(content: unknown) => void>();
    const snapshot = { status: statusMessage({ seq: 3, name: "from the kernel" }).data, update: update(0, 3, [block([[3, 30, 1]])]).data };
    const model = {
      get: (name: string): unknown => (name === "session_id" ? "s1" : snapshot),
      on: (_: string, f: (content: unknown) => void) => void listeners.add(f),
      off: (_: string, f: (content: unknown) => void) => void listeners.delete(f),
      send: (content: unknown) => void sent.push(content as never),
    };
    const places = [document.createElement("div"), document.createElement("div")];
    const stops = await Promise.all(places.map((el) => widget.render({ model: model as never, el })));
    expect(places.map((el) => el.querySelector("h2")!.textContent)).toEqual(["from the kernel", "from the kernel"]);
    expect(sent[0]).toEqual({ event: "subscribe_session", data: { sessionId: "s1", after: 3 } });
    expect(sent.some((m) => m.event === "alive")).toBe(true);
    listeners.forEach((f) => f(statusMessage({ seq: 3, name: "renamed" })));
    await new Promise((resolve) => setTimeout(resolve, 40));
    expect(places[0].querySelector("h2")!.textContent).toBe("renamed");
    stops.forEach((stop) => stop());
    expect(listeners.size).toBe(0);
    expect(places[0].children).toHaveLength(0);
    vi.unstubAllGlobals();
  });
});

describe("plotly", () => {
  it("is loaded once per page, and a failure is not kept", async () => {
    const page = globalThis as Record<string, unknown>;
    delete page.__forgePlotly;
    await expect(loadPlotly(null)).rejects.toThrow("no source");
    await Promise.resolve();
    const api = {};
    page.__forgePlotly = Promise.resolve({ default: api });
    expect(await loadPlotly(null)).toBe(api);
    delete page.__forgePlotly;
  });
});
