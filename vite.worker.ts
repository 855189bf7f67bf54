/** For Vite: a page's code starts the worker, and the worker's has no part that does. */
import { fileURLToPath } from "node:url";

const without = fileURLToPath(new URL("./src/worker/no-worker.ts", import.meta.url));

/** For what bundles `entry-web.ts`. */
export const inWorker = () => ({
  name: "halfstep-in-worker",
  enforce: "pre" as const,
  resolveId: (id: string) => (id === "#start-worker" ? without : null),
});

/**
 * Words of one source file that Vite must not see, since it would handle them as a whole app's: in the package they stand as they were
 * written, or as `written` has them, for the bundler of whoever uses it.
 */
function outOfSight(name: string, file: string, words: string, written = words) {
  const placeholder = `__HALFSTEP_${name.toUpperCase().replaceAll("-", "_")}__`;
  return {
    name: `halfstep-${name}`,
    enforce: "pre" as const,
    transform: (code: string, id: string) =>
      id.endsWith(file) ? { code: code.replaceAll(words, placeholder), map: null } : null,
    renderChunk: (code: string) =>
      code.includes(placeholder) ? { code: code.replaceAll(placeholder, written), map: null } : null,
  };
}

/** ONNX Runtime's files are found and copied by the bundler of whoever uses the package; Vite would write them into ours. */
export const besideRuntime = () => outOfSight("beside-runtime", "/runtime/web-files.ts", "import.meta.url");

/** The worker's bundle is a file beside the page's. Vite would write an address from the root of a server. */
export const besideWorker = () =>
  outOfSight(
    "beside-worker",
    "/worker/start-web.ts",
    'new URL("./host/entry-web.ts", import.meta.url)',
    'new URL("./web-worker.js", import.meta.url)',
  );

/**
 * In the package's worker, CLIP's vocabulary, for single files, is a file that the worker fetches when it needs it. Bundlers put all
 * of a worker into one file, `import()` or not, and it would be half of that.
 */
export const besideVocabulary = () =>
  outOfSight(
    "beside-vocabulary",
    "/single-file/clip-vocabulary.ts",
    'import("./clip-merges.ts")',
    'import(/* @vite-ignore */ /* webpackIgnore: true */ new URL("./clip-merges.js", import.meta.url).href)',
  );
