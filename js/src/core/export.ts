/** Files from what is seen: the curves of a figure as CSV, pictures of it. */

import type { Figure } from "./figure";

/** One row for each drawn point inside the window; thinned where the drawing is. */
export function csv(figure: Figure, window: [number, number] | null, modelName: (index: number) => string): string {
  const rows = ["model,metric,step,time,value"];
  for (const { model, metric, points } of figure.lines) {
    points.x.forEach((x, i) => {
      if (window !== null && (x < window[0] || x > window[1])) return;
      rows.push([quoted(modelName(model)), quoted(metric), points.step[i], points.time[i], points.value[i]].join(","));
    });
  }
  return `${rows.join("\n")}\n`;
}

/** A text that starts like a formula would be run as one by a spreadsheet. */
function quoted(text: string): string {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}

export function save(name: string, address: string): void {
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
}

export function saveText(name: string, text: string, type: string): void {
  const address = URL.createObjectURL(new Blob([text], { type }));
  save(name, address);
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

export function fileName(title: string, ending: string): string {
  const safe = title.replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[-.]+|-+$/g, "").slice(0, 80);
  return `${safe === "" ? "training" : safe}.${ending}`;
}
