/** News of trainings in JupyterLab's notification centre, and in the system's where the user asked for it. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette, Notification as Notice } from "@jupyterlab/apputils";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { Api } from "../core/api";
import { sharedLadder } from "../core/ladder";
import { NewsDesk, browserNotify, type News } from "../core/news";
import { CommandIDs, NO_ARGS } from "./commands";

/** The settings live in one schema, schema/plugin.json. */
const SETTINGS = "forge-notebook:plugin";
const LOOK = { finished: "success", failed: "error", alert: "warning", grokking: "info" } as const;

export const newsPlugin: JupyterFrontEndPlugin<void> = {
  id: "forge-notebook:news",
  description: "Tells when a training has finished or failed, raised an alert, or begun to grok.",
  autoStart: true,
  optional: [ISettingRegistry, ICommandPalette],
  activate: (app: JupyterFrontEnd, registry: ISettingRegistry | null, palette: ICommandPalette | null) => {
    const { commands, serviceManager } = app;
    const baseUrl = serviceManager.serverSettings.baseUrl;
    const wanted = { lab: true, browser: false };
    const tell = (news: News): void => {
      if (wanted.browser) browserNotify(news);
      if (!wanted.lab) return;
      Notice.emit(`${news.title}: ${news.text}`, LOOK[news.kind], {
        autoClose: news.kind === "failed" ? false : 8000,
        actions: [{ label: "Open", callback: () => void commands.execute(CommandIDs.openSession, { sessionId: news.sessionId }) }],
      });
    };
    new NewsDesk(sharedLadder(baseUrl), new Api(baseUrl), tell);

    commands.addCommand(CommandIDs.browserNotifications, {
      label: "Notify Me of Trainings in the Background",
      caption: "Ask the browser for permission to show notifications when this page is not visible",
      describedBy: NO_ARGS,
      execute: async () => {
        const granted = (await Notification.requestPermission()) === "granted";
        wanted.browser = granted;
        await registry?.set(SETTINGS, "browserNotifications", granted);
        return granted;
      },
    });
    palette?.addItem({ command: CommandIDs.browserNotifications, category: "Training" });
    void follow(registry, wanted);
  },
};

async function follow(registry: ISettingRegistry | null, wanted: { lab: boolean; browser: boolean }): Promise<void> {
  if (registry === null) return;
  try {
    const settings = await registry.load(SETTINGS);
    const read = (): void => {
      wanted.lab = settings.get("notifications").composite !== false;
      wanted.browser = settings.get("browserNotifications").composite === true;
    };
    settings.changed.connect(read);
    read();
  } catch (error) {
    console.warn("forge-notebook: settings could not be read, defaults are used", error);
  }
}
