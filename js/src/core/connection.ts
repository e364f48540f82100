/** How a card hears from its session: the states, and which may follow which. */

export type Connection = "connecting" | "live" | "polling" | "stale" | "offline";

/** Silence after which a running session is called stale. */
export const STALE_AFTER_MS = 5000;
/** A session whose own updates are slow is stale after three of its intervals, at most this. */
export const STALE_AT_MOST_MS = 120_000;

const NEXT: Record<Connection, readonly Connection[]> = {
  connecting: ["live", "polling", "offline"],
  live: ["polling", "stale", "offline", "connecting"],
  polling: ["live", "stale", "offline", "connecting"],
  stale: ["live", "polling", "offline", "connecting"],
  // Nothing is heard offline, so nothing can go stale there.
  offline: ["live", "polling", "connecting"],
};

export function mayFollow(from: Connection, to: Connection): boolean {
  return from === to || NEXT[from].includes(to);
}

/** Delay before attempt `n` (0-based): doubling, capped, with jitter so that many pages do not return at once. */
export function backoff(n: number, random: () => number = Math.random, base = 1000, cap = 30_000): number {
  return Math.min(cap, base * 2 ** Math.min(n, 10)) * (0.5 + random());
}
