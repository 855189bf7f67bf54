import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";
import { inWorker } from "../../vite.worker.ts";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
/** With these the page may use threads. */
const headers = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

// Of this file a page of yours needs the headers and the format of workers: halfstep comes from npm there.
export default defineConfig({
  root: here("."),
  publicDir: here("../../checkpoints"),
  resolve: { alias: { "halfstep/web": here("../../src/web.ts") } },
  server: { headers },
  preview: { headers },
  build: { target: "es2023" },
  worker: { format: "es", plugins: () => [inWorker()] },
});
