import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Card, type CardHost } from "../src/core/card";
import { overallProgress, segmentProgress } from "../src/core/card-bars";
import type { PlotlyApi } from "../src/core/plotly-loader";
import { SessionClient } from "../src/core/session-client";
import type { Ack, SessionStatus } from "../src/core/wire";
import { ManualFeed, block, metrics, model, status, statusMessage, update } from "./fixtures";

const HOSTILE = `<img src=x onerror="globalThis.owned = true"><script>globalThis.owned = true</script>`;
const noPlotly: PlotlyApi = { react: () => Promise.resolve(), purge: () => undefined, Plots: { resize: () => undefined } };

describe("card", () => {
  let client: SessionClient;
  let feed: ManualFeed;
  let card: Card;

  function mount(over: Partial<SessionStatus>, host: Partial<CardHost> = {}): HTMLElement {
    client.receive(statusMessage(over), feed);
    card = new Card(client, { loadPlotly: () => Promise.resolve(noPlotly), ...host });
    document.body.append(card.node);
    return card.node;
  }
  const kpis = (): Record<string, string> =>
    Object.fromEntries([...card.node.querySelectorAll<HTMLElement>(".forge-kpi")].filter((k) => !k.hidden).map((k) => [k.querySelector("dt")!.textContent, k.querySelector("dd")!.textContent]));
  const button = (label: RegExp): HTMLButtonElement => [...card.node.querySelectorAll("button")].find((b) => label.test(b.textContent))!;
  const settle = async (): Promise<void> => {
    await vi.advanceTimersByTimeAsync(1100);
  };

  beforeEach(() => {
    vi.useFakeTimers();
    client = new SessionClient("s1");
    feed = new ManualFeed();
    client.attach(feed);
  });
  afterEach(() => {
    card.dispose();
    client.dispose();
    vi.useRealTimers();
  });

  it("renders user text as text, wherever it comes from", () => {
    const node = mount({
      name: HOSTILE, config: { [HOSTILE]: HOSTILE, lr: HOSTILE }, error: HOSTILE, totalModels: 2, host: HOSTILE,
      models: [model({ name: HOSTILE }), model({ index: 1, name: HOSTILE })], metrics: metrics({ extra: { grokPhase: HOSTILE }, grokProgress: 3 }),
      marks: [{ seq: 1, time: 1, step: 3, model: 0, event: "alert", data: { message: HOSTILE } }],
    });
    expect(node.querySelector("img, script")).toBeNull();
    expect(node.querySelector("h2")!.textContent).toBe(HOSTILE);
    expect(node.textContent).toContain(HOSTILE);
    expect((globalThis as { owned?: boolean }).owned).toBeUndefined();
  });

  it("shows what is unknown as a dash and what is not measured not at all", () => {
    mount({ metrics: metrics({ loss: null, perplexity: null, estimatedTimeRemaining: null, trainingTime: null, overallProgress: null }), metricNames: ["loss"] });
    expect(kpis()).toEqual({ "train loss": "\u2013", elapsed: "\u2013", ETA: "\u2013" });
    const bars = [...card.node.querySelectorAll<HTMLElement>(".forge-bar")];
    expect(bars.every((bar) => bar.hidden)).toBe(true);
  });

  it("says NaN and infinity where the value was not finite", () => {
    mount({ metrics: metrics({ loss: null, perplexity: null, nonFinite: { loss: "NaN", val_loss: "Infinity", perplexity: "Infinity" }, extra: { val_loss: null } }), metricNames: ["loss", "val_loss"] });
    expect(kpis()).toMatchObject({ "val loss": "\u221e", "train loss": "NaN", perplexity: "\u221e" });
    expect(card.node.textContent).not.toContain("0.000");
  });

  it("names the grok bar after its method and hides it without a value", async () => {
    mount({ metrics: metrics({ grokProgress: 61, extra: { grokMethod: "rank", grokPhase: "plateau" } }) });
    const bar = card.node.querySelector<HTMLElement>(".forge-bar-grok")!;
    expect(bar.textContent).toBe("grok61%");
    client.receive(update(0, 2, [], { metrics: metrics({ grokProgress: 12, extra: { grokMethod: "loss" } }) }), feed);
    await settle();
    expect(bar.textContent).toBe("loss heuristic12%");
    client.receive(update(2, 3, [], { metrics: metrics({ grokProgress: null }) }), feed);
    await settle();
    expect(bar.hidden).toBe(true);
  });

  it("reaches exactly 100 when completed, and not before", () => {
    expect(overallProgress(status({ status: "completed", metrics: metrics({ overallProgress: 99.9 }) }))).toBe(100);
    mount({ metrics: metrics({ overallProgress: 99.97 }) });
    expect(card.node.querySelector(".forge-bar-text")!.textContent).toBe("99%");
    const three = status({ totalModels: 3, models: [model({ status: "completed", step: 98 }), model({ index: 1, step: 50 })] });
    expect([0, 1, 2].map((i) => segmentProgress(three, three.models[i], i, 50))).toEqual([100, 50, 0]);
  });

  it("describes its bars and states to assistive technology", () => {
    mount({});
    const track = card.node.querySelector("[role=progressbar]")!;
    expect(track.getAttribute("aria-valuenow")).toBe("20");
    expect(card.node.querySelector(".forge-state")!.getAttribute("aria-live")).toBe("polite");
    expect(card.node.querySelector(".forge-link")!.textContent).toBe("Live");
  });

  it("counts elapsed on while running and says how long it has been silent", async () => {
    mount({ metrics: metrics({ trainingTime: 65 }) });
    expect(kpis().elapsed).toBe("1m 05s");
    await vi.advanceTimersByTimeAsync(8000);
    expect(kpis().elapsed).toBe("1m 13s");
    expect(card.node.querySelector(".forge-link")!.textContent).toMatch(/^No data for [78]s$/);
  });

  it("keeps a command pending until it is acknowledged", async () => {
    const control = vi.fn<(command: string) => Promise<Ack>>(() => Promise.reject(new Error("not yet acknowledged")));
    mount({}, { control });
    button(/Pause/).click();
    button(/Pausing/).click();
    await settle();
    expect(control.mock.calls.map((c) => c[0])).toEqual(["pause"]);
    expect(button(/Pausing/).getAttribute("aria-busy")).toBe("true");
    client.receive({ event: "command_ack", data: { commandId: "c", command: "pause", ok: false, message: "too late" } }, feed);
    expect(button(/^Pause$/).getAttribute("aria-busy")).toBeNull();
    expect(card.node.querySelector(".forge-answer")!.textContent).toBe("pause: too late");
  });

  it("sets a learning rate that is a number above 0, pending until acknowledged", async () => {
    const control = vi.fn((command: string) => Promise.resolve({ commandId: "c", command, ok: true, message: "learning_rate 0.002" }));
    mount({ config: { learning_rate: 0.001 } }, { control });
    const type = (text: string): void => {
      button(/Learning rate/).click();
      card.node.querySelector<HTMLInputElement>(".forge-input")!.value = text;
      card.node.querySelector("form")!.dispatchEvent(new Event("submit", { cancelable: true }));
    };
    button(/Learning rate/).click();
    expect(card.node.querySelector<HTMLInputElement>(".forge-input")!.value).toBe("1e-3");
    type("-1");
    expect(control).not.toHaveBeenCalled();
    type("2e-3");
    expect(control).toHaveBeenCalledWith("set", { learning_rate: 0.002 });
    expect(button(/Setting/).getAttribute("aria-busy")).toBe("true");
    await vi.advanceTimersByTimeAsync(10);
    expect(card.node.querySelector(".forge-answer")!.textContent).toBe("learning_rate 0.002");
  });

  it("offers no learning rate to a session that speaks of none", () => {
    mount({}, { control: () => Promise.reject(new Error("never")) });
    expect(button(/Learning rate/).hidden).toBe(true);
  });

  it("asks before a stop that would throw away work, and not before one that would not", async () => {
    const control = vi.fn((command: string) => Promise.resolve({ commandId: "c", command, ok: true, message: "" }));
    mount({ metrics: metrics({ overallProgress: 50 }) }, { control });
    button(/^Stop$/).click();
    expect(control).not.toHaveBeenCalled();
    expect(document.activeElement?.textContent).toBe("Keep running");
    button(/Keep running/).click();
    expect(control).not.toHaveBeenCalled();
    button(/^Stop$/).click();
    button(/Stop training/).click();
    expect(control).toHaveBeenCalledTimes(1);
    await settle();
    client.receive(update(0, 2, [], { metrics: metrics({ overallProgress: 5 }) }), feed);
    await settle();
    button(/^Stop$/).click();
    expect(control).toHaveBeenCalledTimes(2);
  });

  it.each([["not controllable", { controllable: false }], ["ended", { status: "completed" }]] as [string, Partial<SessionStatus>][])(
    "offers no controls when the session is %s",
    (_, over) => {
      mount(over, { control: () => Promise.reject(new Error("never")) });
      expect(card.node.querySelector<HTMLElement>(".forge-controls")!.hidden).toBe(true);
    },
  );

  it("lists each model once and each line style once, and can switch them off", async () => {
    const seen: unknown[][] = [];
    const plotly: PlotlyApi = { ...noPlotly, react: (_, data) => (seen.push(data), Promise.resolve()) };
    const node = mount({ totalModels: 2, models: [model({ name: "a" }), model({ index: 1, name: "b" })] }, { loadPlotly: () => Promise.resolve(plotly) });
    Object.defineProperty(node.querySelector(".forge-chart"), "clientWidth", { value: 600 });
    const both = (m: number, seq: number) => ({ model: m, columns: ["loss", "val_loss"], seq: [seq, seq + 1], step: [1, 2], time: [1, 2], values: [[3, 2], [3, 2.5]] });
    client.receive(update(0, 4, [both(0, 1), both(1, 3)]), feed);
    await settle();
    const items = [...node.querySelectorAll<HTMLButtonElement>(".forge-legend-item")];
    expect(items.map((i) => i.querySelector(".forge-legend-name")!.textContent)).toEqual(["a", "b", "train", "validation"]);
    expect(seen[seen.length - 1]).toHaveLength(4);
    items[1].click();
    await settle();
    expect(items[1].getAttribute("aria-pressed")).toBe("false");
    expect(seen[seen.length - 1]).toHaveLength(2);
    items[3].click();
    await settle();
    expect(seen[seen.length - 1]).toHaveLength(1);
  });

  it("says that a session the server does not know is a saved copy, and offers no controls for it", async () => {
    mount({}, { control: () => Promise.reject(new Error("never")) });
    client.receive({ event: "error", data: { sessionId: "s1", message: "Nicht da", code: "unknown_session" } }, feed);
    await settle();
    expect(card.node.querySelector(".forge-link")!.textContent).toBe("Saved copy");
    expect(card.node.querySelector(".forge-state")!.textContent).toBe("Running when saved");
    expect(card.node.querySelector<HTMLElement>(".forge-controls")!.hidden).toBe(true);
    expect(kpis()["train loss"]).toBe("1.500");
  });

  it("does not show a small loss as the 0 it was rounded to", async () => {
    mount({ metrics: metrics({ loss: 0 }) });
    expect(kpis()["train loss"]).toBe("0");
    client.receive(update(0, 2, [block([[2, 2, 6.2e-6]])], { metrics: metrics({ loss: 0 }) }), feed);
    await settle();
    expect(kpis()["train loss"]).toBe("6.2e-6");
  });

  it("leads with the drawn metric when there is no loss", async () => {
    mount({ metricNames: ["reward"], metrics: metrics({ loss: null, perplexity: null, extra: { reward: 12.5 } }) });
    client.receive(update(0, 2, [block([[2, 2, 12.5]], { columns: ["reward"] })], { metrics: metrics({ loss: null, perplexity: null, extra: { reward: 12.5 } }) }), feed);
    await settle();
    const lead = [...card.node.querySelectorAll<HTMLElement>(".forge-kpi-lead")].find((k) => !k.hidden)!;
    expect(lead.textContent).toBe("reward12.5");
  });

  it("does not restart what has not changed", () => {
    mount({ config: { lr: 1 } });
    const before = card.node.querySelector(".forge-config-list")!.firstElementChild;
    client.receive(update(0, 2, [block([[2, 2, 1]])]), feed);
    expect(card.node.querySelector(".forge-config-list")!.firstElementChild).toBe(before);
  });
});
