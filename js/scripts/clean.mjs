// A stale build is packaged silently (hatch's skip-if-exists): outputs go first.
import { rmSync } from "node:fs";

for (const path of ["../forge_notebook/static", "../forge_notebook/labextension", "lib"]) {
  rmSync(new URL(`../${path}`, import.meta.url), { recursive: true, force: true });
}
