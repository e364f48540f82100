/** Names of commands, and what they take. */

export const CommandIDs = {
  openPanel: "forge-notebook:open-panel",
  openSession: "forge-notebook:open-session",
  compare: "forge-notebook:compare-sessions",
  browserNotifications: "forge-notebook:browser-notifications",
} as const;

export const PANEL_ID = "forge-notebook-panel";

export const NO_ARGS = { args: { type: "object" as const, properties: {}, additionalProperties: false } };

export const SESSION_ARGS = {
  args: {
    type: "object" as const,
    required: ["sessionId"],
    properties: {
      sessionId: { type: "string" as const, description: "Id of the training session to show" },
    },
  },
};

export const COMPARE_ARGS = {
  args: {
    type: "object" as const,
    required: ["sessionIds"],
    properties: {
      sessionIds: { type: "array" as const, items: { type: "string" as const }, description: "Ids of the sessions to draw on one chart" },
    },
  },
};
