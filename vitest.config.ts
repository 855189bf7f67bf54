import { configDefaults, defineConfig } from "vitest/config";

// Two cores: more workers than that only fight over ONNX Runtime's own threads.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // vitest.browser.config.ts and vitest.package.config.ts have these.
    exclude: [...configDefaults.exclude, "test/browser/**", "test/package/**"],
    testTimeout: 60_000,
    maxWorkers: 2,
  },
});
