// Builds what the Jupyter server and the kernel serve: the cell widget, the
// page, their styles, and the only copies of the card and of Plotly.
import { createHash } from "node:crypto";
import { copyFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const out = "../forge_notebook/static";
const shared = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  logLevel: "info",
};
const text = async (options) => (await build({ ...shared, ...options, write: false })).outputFiles[0].text;

await build({ ...shared, entryPoints: { dashboard: "src/dashboard/index.ts" }, outdir: out });
await build({ ...shared, entryPoints: { forge: "style/page.css" }, outdir: out });
await build({
  ...shared,
  stdin: { contents: 'export { default } from "plotly.js-basic-dist-min";', resolveDir: "." },
  outfile: `${out}/plotly.mjs`,
  legalComments: "inline",
});

// The widget's module is sent for each model, the card's once per page. Its name
// holds a hash: a server of another version answers 404, and the kernel sends its own.
const style = await text({ entryPoints: ["style/card.css"] });
const card = await text({ entryPoints: ["src/widget/cell.ts"], define: { CARD_CSS: JSON.stringify(style.trim()) } });
const file = `card-${createHash("sha256").update(card).digest("hex").slice(0, 12)}.mjs`;
for (const old of readdirSync(out)) if (/^card-.*\.mjs$/.test(old)) rmSync(`${out}/${old}`);
writeFileSync(`${out}/${file}`, card);
await build({ ...shared, entryPoints: { widget: "src/widget/index.ts" }, outdir: out, define: { CARD_FILE: JSON.stringify(file) } });
copyFileSync("src/dashboard/dashboard.html", `${out}/dashboard.html`);
