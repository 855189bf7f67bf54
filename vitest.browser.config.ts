import { defineConfig } from "vitest/config";

// What needs a browser, which npm does not install: `npm run test:browser`, apart from `npm test`.
export default defineConfig({
  test: { include: ["test/browser/**/*.test.ts"], testTimeout: 120_000, hookTimeout: 120_000, maxWorkers: 1 },
});
