/** The line of hyper-parameters and the whole configuration behind it. */

import { h, setText, show } from "./dom";
import { UNKNOWN, compact, setting } from "./format";
import { isObject, type SessionStatus } from "./wire";

/** What a reader of training curves looks for first, and how it is abbreviated. */
const BRIEF: readonly [RegExp, string][] = [
  [/^(lr|learning_rate)$/, "lr"],
  [/^(weight_decay|wd)$/, "wd"],
  [/^batch(_size)?$/, "batch"],
  [/^(optimizer|optim)$/, ""],
  [/^(seq_len|sequence_length|block_size|context)$/, "context"],
  [/^(dropout)$/, "dropout"],
  [/^seed$/, "seed"],
];

export class ConfigView {
  readonly line = h("div", "forge-hyper");
  private readonly list = h("dl", "forge-config-list");
  readonly details = h("details", "forge-config", {}, h("summary", "", {}, "Configuration"), this.list);
  private drawn = "";

  update(status: SessionStatus): void {
    setText(this.line, briefly(status));
    const entries = [...flatten(status.config), ...origin(status)];
    const signature = JSON.stringify(entries);
    if (signature === this.drawn) return;
    this.drawn = signature;
    show(this.details, entries.length > 0);
    this.list.replaceChildren(...entries.map(([key, text]) => h("div", "", {}, h("dt", "", {}, key), h("dd", "", {}, text))));
  }
}

export function briefly(status: SessionStatus): string {
  const parts: string[] = [];
  for (const [pattern, label] of BRIEF) {
    const key = Object.keys(status.config).find((k) => pattern.test(k));
    const value = key === undefined ? undefined : status.config[key];
    if (value === undefined || value === null || isObject(value)) continue;
    parts.push(`${label} ${setting(value)}`.trim());
  }
  const params = status.metrics?.modelParams;
  if (typeof params === "number") parts.push(`${compact(params)} params`);
  return parts.join(" \u00b7 ");
}

/** Of each session, the settings that are not the same in all that are known; what one looks for first comes first. */
export function differing(configs: readonly (Record<string, unknown> | null)[]): string[][] {
  const all = configs.map((config) => (config === null ? null : new Map(flatten(config))));
  const known = all.filter((one) => one !== null);
  const keys = [...new Set(known.flatMap((one) => [...one.keys()]))];
  const rank = (key: string): number => {
    const at = BRIEF.findIndex(([pattern]) => pattern.test(key));
    return at < 0 ? BRIEF.length : at;
  };
  const different = keys.filter((key) => known.some((one) => one.get(key) !== known[0].get(key))).sort((a, b) => rank(a) - rank(b));
  const say = (key: string, value: string | undefined): string => {
    const label = BRIEF[rank(key)]?.[1] ?? key;
    return value === undefined ? `${label || key} ${UNKNOWN}` : `${label} ${value}`.trim();
  };
  return all.map((one) => (one === null ? [] : different.map((key) => say(key, one.get(key)))));
}

function flatten(config: Record<string, unknown>, prefix = ""): [string, string][] {
  return Object.entries(config).flatMap(([key, value]): [string, string][] =>
    isObject(value) && Object.keys(value).length > 0 ? flatten(value, `${prefix}${key}.`) : [[prefix + key, setting(value)]],
  );
}

function origin(status: SessionStatus): [string, string][] {
  const entries: [string, string][] = [["session", status.sessionId]];
  if (status.host !== "") entries.push(["host", `${status.host}, process ${status.pid}`]);
  if (status.startTime > 0) entries.push(["started", new Date(status.startTime * 1000).toLocaleString()]);
  return entries;
}
