import js from "@eslint/js";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["lib", "node_modules"] },
  js.configs.recommended,
  {
    files: ["**/*.ts", "**/*.mts"],
    extends: [...tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: { project: "./tsconfig.json", tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      // Numbers and enums in template strings are what formatting is made of.
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      // Columnar code indexes arrays it has just measured.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/consistent-type-imports": "error",
      eqeqeq: ["error", "always"],
    },
  },
  {
    files: ["scripts/**/*.mjs"],
    languageOptions: { globals: { process: "readonly", console: "readonly", URL: "readonly" } },
  },
  {
    // The core knows neither JupyterLab nor its hosts: the same files run in a
    // cell, in the side panel and on a page that has no JupyterLab at all.
    files: ["src/core/**/*.ts"],
    rules: {
      "no-restricted-imports": [
        "error",
        { patterns: ["@jupyterlab/*", "@lumino/*", "../widget/*", "../labextension/*", "../dashboard/*"] },
      ],
    },
  },
);
