import { defineConfig } from "vitest/config";

export default defineConfig({
  // Set by scripts/esbuild.mjs in the real build.
  define: { CARD_CSS: '""', CARD_FILE: '"card-test.mjs"' },
  test: { environment: "happy-dom", include: ["tests/**/*.test.ts"], testTimeout: 20_000 },
});
