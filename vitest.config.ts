import { configDefaults, defineConfig } from "vitest/config";

// Two cores: more workers than that only fight over ONNX Runtime's own threads.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // vitest.browser.config.ts and vitest.package.config.ts have these.
    exclude: [...configDefaults.exclude, "test/browser/**", "test/package/**"],
    testTimeout: 60_000,
    maxWorkers: 2,
    // With --coverage, as .ci/run has it: what the tests' own processes run of src/, without the commands that they start.
    coverage: { provider: "v8", include: ["src/**"], reporter: ["text-summary"], reportsDirectory: "coverage" },
  },
});
