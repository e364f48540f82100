/** Words for states. The colour beside them only repeats what they say. */

import type { Connection } from "./connection";
import { duration } from "./format";
import type { SessionStatus, Status } from "./wire";

const STATE: Record<Status, string> = {
  created: "Starting",
  running: "Running",
  paused: "Paused",
  completed: "Completed",
  failed: "Failed",
  stopped: "Stopped",
  interrupted: "Interrupted",
};

export function stateText(status: Pick<SessionStatus, "status">): string {
  return STATE[status.status];
}

export function connectionText(connection: Connection, quietMs: number): string {
  switch (connection) {
    case "connecting":
      return "Connecting";
    case "live":
      return "Live";
    case "polling":
      return "Live (polling)";
    case "stale":
      return `No data for ${duration(quietMs / 1000)}`;
    case "offline":
      return "Offline";
  }
}
