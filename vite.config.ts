import { existsSync } from "node:fs";
import { builtinModules } from "node:module";
import { defineConfig } from "vite";
import packageJson from "./package.json" with { type: "json" };
import { besideRuntime, besideVocabulary, besideWorker, inWorker } from "./vite.worker.ts";

/**
 * What a user's install has beside halfstep stays an import. Everything else that an entry needs comes with it, ours and
 * devDependencies alike: those bring many packages of their own or are needed in part only (docs/install.md).
 */
const { dependencies, optionalDependencies, peerDependencies } = packageJson;
const external = [
  /^node:/,
  ...builtinModules,
  ...Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies }).map(
    (name) => new RegExp(`^${name}(/|$)`),
  ),
];
const files = { entryFileNames: "[name].js", chunkFileNames: "shared-[hash].js" };
const cli = "src/cli/main.ts";

// Two bundles of one source, which differ in what `#platform` is: the conditions of package.json's "imports" say it.
export default defineConfig({
  builder: {
    async buildApp(builder) {
      await builder.build(builder.environments["ssr"]!);
      await builder.build(builder.environments["client"]!);
      await builder.build(builder.environments["worker"]!);
    },
  },
  plugins: [
    { ...besideWorker(), applyToEnvironment: ({ name }) => name === "client" },
    { ...inWorker(), applyToEnvironment: ({ name }) => name === "worker" },
    { ...besideVocabulary(), applyToEnvironment: ({ name }) => name === "worker" },
    { ...besideRuntime(), applyToEnvironment: ({ name }) => name === "client" || name === "worker" },
  ],
  // Readable as it is: whoever bundles it for a page minifies it there.
  build: { target: "es2023", minify: false },
  environments: {
    ssr: {
      resolve: { noExternal: true },
      build: {
        ssr: true,
        outDir: "dist",
        emptyOutDir: true,
        license: { fileName: "licenses.md" },
        rolldownOptions: {
          input: {
            index: "src/index.ts",
            exploration: "src/exploration/index.ts",
            worker: "src/worker/host/entry-node.ts",
            "explore-worker": "src/cli/explore/worker.ts",
            ...(existsSync(cli) ? { cli } : {}),
          },
          external,
          output: files,
        },
      },
    },
    client: {
      build: {
        lib: {
          entry: { web: "src/web.ts", "clip-merges": "src/checkpoints/single-file/clip-merges.ts" },
          formats: ["es"],
        },
        outDir: "dist",
        emptyOutDir: false,
        rolldownOptions: { external, output: files },
      },
    },
    worker: {
      consumer: "client",
      build: {
        lib: { entry: { "web-worker": "src/worker/host/entry-web.ts" }, formats: ["es"] },
        outDir: "dist",
        emptyOutDir: false,
        rolldownOptions: { external, output: files },
      },
    },
  },
});
