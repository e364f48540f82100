// Drives one card on a page of our own: the harness of `bench ui` and of the heap test.
async ([base, file]) => {
  globalThis.__forgePlotly ??= import(`${base}forge/static/plotly.mjs`);
  const { render } = await import(`${base}forge/static/${file}`);
  const METRICS = ["loss", "val_loss", "accuracy", "val_accuracy"];
  const listeners = new Set();
  const model = {
    get: (name) => (name === "session_id" ? "bench" : null),
    on: (event, callback) => listeners.add(callback),
    off: (event, callback) => listeners.delete(callback),
    send: () => undefined,
  };
  const el = document.createElement("div");
  document.body.replaceChildren(el);
  render({ model, el });
  const say = (event, data) => listeners.forEach((callback) => callback({ event, data }));
  const metrics = (step) => ({
    loss: 1 / step, perplexity: 1, grokProgress: 1, modelParams: 1e6, currentStep: step, totalSteps: 1e6, currentModel: 1,
    totalModels: 1, overallProgress: 1, trainingTime: step / 100, estimatedTimeRemaining: 1, timestamp: step, extra: { val_loss: 2 / step },
  });
  let seq = 0;
  say("session_status", {
    sessionId: "bench", seq: 0, name: "bench", status: "running", config: { lr: 0.1 }, startTime: 1, endTime: null, lastUpdate: 1, totalModels: 1,
    models: [], metrics: metrics(1), metricNames: METRICS, marks: [], error: null, lost: 0, host: "here", pid: 1, controllable: true,
  });
  const update = (rows) => {
    const at = Array.from({ length: rows }, (_, i) => seq + i + 1);
    const values = [at.map((s) => 10 / s + 0.1 * Math.sin(s)), at.map((s) => 12 / s), at.map((s) => s / 2e6), at.map((s) => s / 3e6)];
    const series = [{ model: 0, columns: METRICS, seq: at, step: at, time: at.map((s) => s / 100), values: values.map((v) => v.map((x) => Math.abs(x) + 1e-3)) }];
    const data = { sessionId: "bench", fromSeq: seq, seq: seq + rows, status: "running", metrics: metrics(seq + rows), models: [], series };
    seq += rows;
    return data;
  };
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  globalThis.forgeBench = {
    // `count` updates of one row, as fast as the page takes them.
    async feed(count) {
      for (let i = 0; i < count; i++) {
        say("progress_update", update(1));
        if (i % 20 === 19) await frame();
      }
      await frame();
    },
    fill: (rows) => say("progress_update", update(rows)),
    frame,
    points: () => Math.max(0, ...[...el.querySelectorAll("path.js-line")].map((p) => (p.getAttribute("d") ?? "").split(/[LHVM]/).length - 1)),
  };
}
