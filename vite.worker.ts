/** For Vite: a page's code starts the worker, and the worker's has no part that does. */
import { fileURLToPath } from "node:url";

const without = fileURLToPath(new URL("./src/worker/no-worker.ts", import.meta.url));

/** For what bundles `entry-web.ts`. */
export const inWorker = () => ({
  name: "halfstep-in-worker",
  enforce: "pre" as const,
  resolveId: (id: string) => (id === "#start-worker" ? without : null),
});

/** Where this file is, out of sight of Vite's handling of assets, and in the package as it was written. */
const HERE = "__HALFSTEP_HERE__";

/**
 * For the package: ONNX Runtime's files are found and copied by the bundler of whoever uses it. Vite's own handling would write them
 * into ours.
 */
export const besideRuntime = () => ({
  name: "halfstep-beside-runtime",
  enforce: "pre" as const,
  transform: (code: string, id: string) =>
    id.endsWith("/runtime/web-files.ts") ? { code: code.replaceAll("import.meta.url", HERE), map: null } : null,
  renderChunk: (code: string) =>
    code.includes(HERE) ? { code: code.replaceAll(HERE, "import.meta.url"), map: null } : null,
});

const PLACE = "__HALFSTEP_WORKER__";
const ENTRY = 'new URL("./host/entry-web.ts", import.meta.url)';

/**
 * For the package: the worker's bundle is a file beside the page's, under the words that bundlers look for. Vite's own handling, which
 * is for whole apps, must not see them: it would write an address from the root of a server.
 */
export const besideWorker = () => ({
  name: "halfstep-beside-worker",
  enforce: "pre" as const,
  transform: (code: string, id: string) =>
    id.endsWith("/worker/start-web.ts") ? { code: code.replace(ENTRY, PLACE), map: null } : null,
  renderChunk: (code: string) =>
    code.includes(PLACE)
      ? { code: code.replace(PLACE, 'new URL("./web-worker.js", import.meta.url)'), map: null }
      : null,
});

const MERGES = "__HALFSTEP_MERGES__";
const OWN_CHUNK = 'import("./clip-merges.ts")';

/**
 * For the package's worker: CLIP's vocabulary, for single files, is a file that the worker fetches when it needs it. Bundlers put all
 * of a worker into one file, `import()` or not, and it would be half of that.
 */
export const besideVocabulary = () => ({
  name: "halfstep-beside-vocabulary",
  enforce: "pre" as const,
  transform: (code: string, id: string) =>
    id.endsWith("/single-file/clip-vocabulary.ts")
      ? { code: code.replace(OWN_CHUNK, `import(${MERGES})`), map: null }
      : null,
  renderChunk: (code: string) =>
    code.includes(MERGES)
      ? {
          code: code.replace(
            MERGES,
            '/* @vite-ignore */ /* webpackIgnore: true */ new URL("./clip-merges.js", import.meta.url).href',
          ),
          map: null,
        }
      : null,
});
