/** The plugins. Optional services are null in hosts that lack them (Notebook 7 has no layout restorer). */

import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette, WidgetTracker } from "@jupyterlab/apputils";
import { IRenderMimeRegistry } from "@jupyterlab/rendermime";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { COMPARE_ARGS, CommandIDs, NO_ARGS, PANEL_ID, SESSION_ARGS } from "./commands";
import { Fallbacks } from "./fallback";
import { forgeIcon } from "./icon";
import { rendererFactory } from "./mime-renderer";
import { ForgePanel } from "./panel";
import { newsPlugin } from "./news";
import { CompareTab, ForgeTab } from "./tab";
import { NotebookWatcher } from "./watcher";

const CATEGORY = "Training";

const panel: JupyterFrontEndPlugin<void> = {
  id: "forge-notebook:panel",
  description: "The side panel with all training sessions, and sessions as tabs.",
  autoStart: true,
  optional: [ILayoutRestorer, ICommandPalette],
  activate: (app: JupyterFrontEnd, restorer: ILayoutRestorer | null, palette: ICommandPalette | null) => {
    const { commands, shell, serviceManager } = app;
    const baseUrl = serviceManager.serverSettings.baseUrl;
    const tracker = new WidgetTracker<ForgeTab>({ namespace: "forge-notebook" });
    const comparisons = new WidgetTracker<CompareTab>({ namespace: "forge-notebook-compare" });
    const sidebar = new ForgePanel(
      baseUrl,
      (sessionId) => void commands.execute(CommandIDs.openSession, { sessionId }),
      (sessionIds) => void commands.execute(CommandIDs.compare, { sessionIds }),
    );

    commands.addCommand(CommandIDs.openPanel, {
      label: "Show Training Sessions",
      caption: "Show the list of training sessions beside the notebook",
      icon: forgeIcon,
      describedBy: NO_ARGS,
      execute: () => shell.activateById(PANEL_ID),
    });
    commands.addCommand(CommandIDs.openSession, {
      label: "Open Training Session",
      caption: "Open the card of a training session as a tab",
      icon: forgeIcon,
      describedBy: SESSION_ARGS,
      execute: (args) => {
        const sessionId = args.sessionId;
        // From the palette, without a session: the panel is where one chooses.
        if (typeof sessionId !== "string") return commands.execute(CommandIDs.openPanel);
        let tab = tracker.find((t) => t.sessionId === sessionId);
        if (tab === undefined) {
          tab = new ForgeTab(baseUrl, sessionId);
          void tracker.add(tab);
          shell.add(tab, "main");
        }
        shell.activateById(tab.id);
        return undefined;
      },
    });
    commands.addCommand(CommandIDs.compare, {
      label: "Compare Training Sessions",
      caption: "Draw one metric of several sessions on one chart",
      icon: forgeIcon,
      describedBy: COMPARE_ARGS,
      execute: (args) => {
        const ids = Array.isArray(args.sessionIds) ? args.sessionIds.filter((id) => typeof id === "string") : [];
        // From the palette, without sessions: the panel is where one ticks them.
        if (ids.length === 0) return commands.execute(CommandIDs.openPanel);
        let tab = comparisons.find((t) => t.ids.join() === ids.join());
        if (tab === undefined) {
          tab = new CompareTab(baseUrl, ids);
          void comparisons.add(tab);
          shell.add(tab, "main");
        }
        shell.activateById(tab.id);
        return undefined;
      },
    });
    palette?.addItem({ command: CommandIDs.openPanel, category: CATEGORY });
    palette?.addItem({ command: CommandIDs.openSession, category: CATEGORY });
    palette?.addItem({ command: CommandIDs.compare, category: CATEGORY });

    restorer?.add(sidebar, PANEL_ID);
    shell.add(sidebar, "right", { rank: 600, type: "Training" });
    void restorer?.restore(tracker, {
      command: CommandIDs.openSession,
      args: (tab) => ({ sessionId: tab.sessionId }),
      name: (tab) => tab.sessionId,
    });
    void restorer?.restore(comparisons, {
      command: CommandIDs.compare,
      args: (tab) => ({ sessionIds: tab.ids }),
      name: (tab) => tab.ids.join(),
    });
  },
};

const renderer: JupyterFrontEndPlugin<void> = {
  id: "forge-notebook:renderer",
  description: "Draws training outputs where no widget manager does.",
  autoStart: true,
  requires: [IRenderMimeRegistry],
  activate: (app: JupyterFrontEnd, registry: IRenderMimeRegistry) => {
    registry.addFactory(rendererFactory(app.serviceManager.serverSettings.baseUrl));
  },
};

const notebooks: JupyterFrontEndPlugin<void> = {
  id: "forge-notebook:plugin",
  description: "Stands in for dead widgets in notebooks and saves a notebook when a session starts.",
  autoStart: true,
  optional: [ISettingRegistry],
  activate: (app: JupyterFrontEnd, settings: ISettingRegistry | null) => {
    const watcher = new NotebookWatcher(app.shell, new Fallbacks(app.serviceManager.serverSettings.baseUrl));
    void follow(settings, watcher);
  },
};

async function follow(registry: ISettingRegistry | null, watcher: NotebookWatcher): Promise<void> {
  if (registry === null) return;
  try {
    const settings = await registry.load(notebooks.id);
    const read = (): void => {
      watcher.set({
        saveOnStart: settings.get("saveOnStart").composite !== false,
        fallbackCard: settings.get("fallbackCard").composite !== false,
      });
    };
    settings.changed.connect(read);
    read();
  } catch (error) {
    console.warn("forge-notebook: settings could not be read, defaults are used", error);
  }
}

export default [panel, renderer, notebooks, newsPlugin];
