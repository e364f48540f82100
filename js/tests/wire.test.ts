import { describe, expect, it } from "vitest";
// The file that tests/core/test_golden.py holds the Python side to.
import golden from "../../tests/fixtures/wire/messages.json";
// What the server answers to wrong requests; tests/server/test_openapi.py holds it to that.
import goldenErrors from "../../tests/fixtures/wire/errors.json";
import { SessionClient } from "../src/core/session-client";
import { asSnapshot, asStatus, isEnvelope, isUnknownSession, parseEnvelope, type Ack, type Envelope } from "../src/core/wire";
import { ManualFeed } from "./fixtures";

const messages = golden as unknown as Envelope[];
const ID = "golden-1";

describe("wire", () => {
  it("accepts every golden message as an envelope", () => {
    for (const message of messages) expect(isEnvelope(message)).toBe(true);
  });

  it("folds the opening of the golden session into the state it describes", () => {
    const client = new SessionClient(ID);
    const feed = new ManualFeed();
    client.attach(feed);
    for (const message of messages.slice(0, 2)) client.receive(message, feed);
    expect(client.cursor()).toBe(23);
    expect(client.status?.status).toBe("failed");
    expect(client.status?.name).toBe("Golden <b>");
    expect(client.status?.error).toBe("RuntimeError: <i>gone</i>");
    expect(client.status?.endTime).toBe(1700000010);
    expect(client.status?.marks.map((m) => m.event)).toContain("checkpoint_saved");
    expect(client.status?.models.map((m) => [m.name, m.status])).toEqual([["first", "completed"], ["model 2", "failed"]]);
    const loss = client.series.curve(0, "loss")!;
    expect(loss.points.step).toEqual([1, 2, 3, 4, 5, 6, 8]);
    expect(loss.points.value[6]).toBe(0.5);
    expect(loss.bad).toEqual([{ seq: 15, step: 7, time: expect.any(Number) as number, what: "NaN" }]);
    // Absent is not a value: the metric that was not logged in a row has no point there.
    expect(client.series.curve(0, "val_loss")!.points.step).toEqual([0]);
    client.dispose();
  });

  it("holds the same curve whether it came live or as the opening", () => {
    const opening = new SessionClient(ID);
    const live = new SessionClient(ID);
    const feed = new ManualFeed();
    const acks: Ack[] = [];
    live.onAck((ack) => acks.push(ack));
    for (const client of [opening, live]) client.attach(feed);
    for (const message of messages.slice(0, 2)) opening.receive(message, feed);
    for (const message of messages.slice(2, 14)) live.receive(message, feed);
    expect(live.gaps).toBe(0);
    expect(live.cursor()).toBe(opening.cursor());
    for (const [model, metric] of [[0, "loss"], [0, "lr"], [0, "val_loss"], [1, "loss"]] as const) {
      expect(live.series.curve(model, metric)).toEqual(opening.series.curve(model, metric));
    }
    expect(acks.map((a) => [a.command, a.ok])).toEqual([["pause", true]]);
    // What a client that knew the first ten records is sent: only what is new to it.
    for (const message of messages.slice(14)) live.receive(message, feed);
    expect(live.series.curve(0, "loss")).toEqual(opening.series.curve(0, "loss"));
    expect(live.gaps).toBe(0);
    opening.dispose();
    live.dispose();
  });

  it("knows an unknown session by the error's code, whatever its text says", () => {
    const told = goldenErrors.map((message) => [message.data.code, isUnknownSession(message.data)]);
    expect(told).toEqual([
      ["unknown_session", true],
      ["invalid_session_id", true],
      ["invalid_parameter", false],
      ["bad_message", false],
      ["bad_message", false],
    ]);
    expect(isUnknownSession({})).toBe(false);
    for (const { event, data } of goldenErrors) {
      const client = new SessionClient("nobody");
      client.receive({ event, data: { ...data, sessionId: "nobody", message: "not found" } }, new ManualFeed());
      expect(client.missing).toBe(isUnknownSession(data));
      client.dispose();
    }
  });

  it("fills what a list entry omits and refuses what is not a status", () => {
    const brief = asStatus({ sessionId: "x", status: "running", seq: 3, startTime: 1 })!;
    expect(brief.config).toEqual({});
    expect(brief.marks).toEqual([]);
    expect(brief.metrics).toBeNull();
    expect(brief.name).toBe("x");
    expect(asStatus({ sessionId: "x", status: "deleted" })).toBeNull();
    expect(asStatus(null)).toBeNull();
    expect(asSnapshot({ status: { sessionId: 3 } })).toBeNull();
  });

  it("does not throw on what is not JSON", () => {
    expect(parseEnvelope("{")).toBeNull();
    expect(parseEnvelope("[1]")).toBeNull();
  });
});
