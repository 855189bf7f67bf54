import { defineConfig } from "vitest/config";

// What needs `npm run build` first, the registry, and Chromium: `npm run test:package`, apart from `npm test`.
export default defineConfig({
  test: {
    include: ["test/package/**/*.test.ts"],
    globalSetup: "test/package/setup.ts",
    testTimeout: 900_000,
    hookTimeout: 600_000,
    maxWorkers: 2,
  },
});
