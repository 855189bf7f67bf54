import { defineConfig } from "vitest/config";

// What needs `npm run build` first: `npm run test:package`, apart from `npm test`.
export default defineConfig({
  test: { include: ["test/package/**/*.test.ts"], testTimeout: 60_000, hookTimeout: 60_000 },
});
