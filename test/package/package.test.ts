/** What `npm pack` makes, seen from a project that it is installed in. Needs `npm run build` first; `npm run test:package`. */
import { execFile } from "node:child_process";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { build } from "vite";
import { beforeAll, describe, expect, inject, it } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import { pageBudget } from "../support/page-budget.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";

const run = promisify(execFile);
const installed = join(inject("project"), "node_modules");
const project = join(inject("project"), "user");
const contents = inject("contents");

beforeAll(() => writeTinyPipeline(join(project, "tiny"), "pixart"));

async function typeErrors(program: string, compilerOptions: object): Promise<string> {
  await writeFile(join(project, "main.ts"), program);
  const options = { target: "ES2023", strict: true, noEmit: true, ...compilerOptions };
  await writeFile(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["main.ts"] }));
  const tsc = run(process.execPath, [join(installed, "typescript/bin/tsc"), "-p", project], { cwd: project });
  return tsc.then(
    () => "",
    ({ stdout }: { stdout: string }) => stdout,
  );
}

const everywhere = `
  import { type Picture, TextToImagePipeline } from "halfstep";
  const pipe = await TextToImagePipeline.fromPretrained("fluent-emoji");
  const { images }: { images: Picture[] } = await pipe("a cat", { steps: 2, seed: 1 });
  // @ts-expect-error: there is no such option
  await pipe("a cat", { stepz: 2 });
  console.log(images.length);
`;

describe("the package", () => {
  it("has the bundles, their types and notices, and neither sources nor tests", () => {
    for (const file of ["dist/index.js", "dist/cli.js", "dist/web.js", "dist/types/index.d.ts", "LICENSE", "NOTICE"]) {
      expect(contents).toContain(file);
    }
    const expected = /^(dist|checkpoints)\/|^(package\.json|README\.md|CHANGELOG\.md|LICENSE|NOTICE)$/;
    expect(contents.filter((path) => !expected.test(path))).toEqual([]);
  });

  it("refers to nothing that is not in it", async () => {
    const dist = join(installed, "halfstep/dist");
    const files = (await readdir(dist, { recursive: true })).filter((file) => /\.(js|ts)$/.test(file));
    for (const file of files) {
      const text = await readFile(join(dist, file), "utf8");
      const imports = [...text.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map(([, name]) => name!);
      for (const name of imports.filter((each) => each.startsWith("#") || each.includes("/src/"))) {
        expect.fail(`${file} imports ${name}`);
      }
    }
  });

  // Libraries' types are checked too: they need nothing but what is installed with halfstep.
  it("has types for Node", async () => {
    const program = `${everywhere} import { downloadModel, nodeRuntime } from "halfstep"; console.log(downloadModel, nodeRuntime);`;
    const node = { module: "NodeNext", moduleResolution: "NodeNext", types: ["node"] };
    expect(await typeErrors(program, node)).toBe("");
  });

  it("has types for browsers", async () => {
    const program = `${everywhere}
      import { configureWebRuntime } from "halfstep";
      // @ts-expect-error: Node's
      import { downloadModel } from "halfstep";
      console.log(configureWebRuntime, downloadModel);`;
    const lib = ["ES2023", "DOM", "DOM.Iterable"];
    const vite = { module: "ESNext", moduleResolution: "Bundler", customConditions: ["browser"], lib, types: [] };
    expect(await typeErrors(program, vite)).toBe("");
  });

  it("makes pictures in Node", async () => {
    const program = `
      import { encodePng, TextToImagePipeline } from "halfstep";
      const pipe = await TextToImagePipeline.fromPretrained("./tiny", { threads: 1 });
      const { images } = await pipe("a red cat", { steps: 2, seed: 1 });
      console.log(encodePng(images[0]).length > 100, Object.keys(await import("halfstep/web")).includes("webRuntime"));`;
    const { stdout } = await run(process.execPath, ["--input-type=module", "-e", program], { cwd: project });
    expect(stdout.trim()).toBe("true true");
  });

  it("has a command", async () => {
    const cli = join(installed, "halfstep", packageJson.bin.halfstep);
    expect(await readFile(cli, "utf8")).toMatch(/^#!\/usr\/bin\/env node\n/);
    const { stdout } = await run(process.execPath, [cli, "--version"]);
    expect(stdout.trim()).toBe(packageJson.version);
  });

  it("bundles for a page, without anything of Node's", async () => {
    await writeFile(join(project, "index.html"), '<script type="module" src="./page.js"></script>');
    await writeFile(
      join(project, "page.js"),
      'import { TextToImagePipeline } from "halfstep"; globalThis.open = TextToImagePipeline.fromPretrained;',
    );
    await build({ configFile: false, root: project, logLevel: "error", build: { outDir: "site", target: "es2023" } });
    const assets = await readdir(join(project, "site/assets"));
    const page = assets.find((name) => /^index-.*\.js$/.test(name))!;
    const text = await readFile(join(project, "site/assets", page), "utf8");
    expect(text).not.toMatch(/onnxruntime-node|node:fs|__vite-browser-external/);
    expect(gzipSync(text).length / 1e3).toBeLessThan(pageBudget.page);
  });
});
