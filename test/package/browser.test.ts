/** docs/browser.md in the app that `npm create vite` makes, and the sizes that it states. */
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, inject, it } from "vitest";
import { launchChromium } from "../browser/chromium.ts";
import { serve } from "../browser/server.ts";
import { pageBudget } from "../support/page-budget.ts";
import { writeApp, writeIn } from "./docs.ts";
import { root, run } from "./run.ts";

const project = inject("project");
const bin = (name: string) => join(project, "node_modules/.bin", name);
const page = join(project, "page");
const model = join(project, "node_modules/halfstep/checkpoints/fluent-emoji");

let browser: Browser;
beforeAll(async () => {
  browser = await launchChromium();
});
afterAll(() => browser?.close());

/** Opens a site and gives the colours of the canvas that it makes. */
async function opened(site: string): Promise<number> {
  const server = await serve({ "/": site, "/models/fluent-emoji/": model });
  const tab = await browser.newPage();
  try {
    await tab.goto(`${server.url}/index.html`);
    await tab.waitForSelector("canvas", { timeout: 120_000 });
    return await tab.evaluate(() => {
      const canvas = document.querySelector("canvas")!;
      const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
      if (canvas.width !== 64 || canvas.height !== 64) return 0;
      return new Set(new Uint32Array(data.buffer)).size;
    });
  } finally {
    await tab.close();
    await server.close();
  }
}

it("Vite: the page compiles, is built and draws", async () => {
  await rm(page, { recursive: true, force: true });
  await run(bin("create-vite"), ["page", "--template", "vanilla-ts", "--no-interactive"], { cwd: project });
  await writeApp(project, "page", "docs/browser.md", "A new page");
  await run(bin("tsc"), [], { cwd: page });
  await run(bin("vite"), ["build"], { cwd: page });
  expect(await opened(join(page, "dist"))).toBeGreaterThan(100);
});

it("Vite: a page whose chunk ONNX Runtime's imports draws on two threads, also in a worker", async () => {
  const page = await readFile(join(project, "page/src/main.ts"), "utf8");
  expect(page).toContain('{ provider: "wasm" }');
  for (const options of ['{ provider: "wasm", threads: 2 }', '{ provider: "wasm", threads: 2, worker: true }']) {
    const folder = join(project, "threads");
    await rm(folder, { recursive: true, force: true });
    await writeIn(folder, "index.html", '<body><script type="module" src="./main.js"></script></body>');
    await writeIn(folder, "tools.js", "export const one = 1;");
    const object = 'import * as tools from "./tools.js";\nglobalThis.tools = tools;\n';
    // Without top-level await, with which Vite makes a chunk of its runtime alone.
    const [imports, rest] = page.replace('{ provider: "wasm" }', options).split("\n\nconst pipe");
    await writeIn(folder, "main.js", `${object}${imports}\n(async () => {\nconst pipe${rest}})();`);
    await writeIn(folder, "vite.config.js", 'export default { worker: { format: "es" } };');
    await run(bin("vite"), ["build"], { cwd: folder });
    const assets = join(folder, "dist/assets");
    const runtime = (await readdir(assets)).filter((name) => /^ort\.wasm\.bundle.*\.js$/.test(name));
    const texts = await Promise.all(runtime.map((name) => readFile(join(assets, name), "utf8")));
    expect(texts.some((text) => /^import\{[^}]*\}from"\.\/index-/.test(text))).toBe(true);
    expect(await opened(join(folder, "dist"))).toBeGreaterThan(100);
  }
});

/** With HALFSTEP_WRITE_SIZES=1 it writes them. */
it("has the sizes of that page in its documentation", async () => {
  const assets = join(page, "dist/assets");
  const names = await readdir(assets);
  const code = await readFile(join(assets, names.find((name) => /^index-.*\.js$/.test(name))!));
  const wasm = await readFile(join(assets, names.find((name) => /^ort-wasm-simd-threaded-.*\.wasm$/.test(name))!));
  const measured = [code.length / 1e3, gzipSync(code).length / 1e3, wasm.length / 1e6, gzipSync(wasm).length / 1e6];

  const path = join(root, "docs/browser.md");
  const text = await readFile(path, "utf8");
  const sizes = /about (\d+) kB of JavaScript \((\d+) kB compressed\), ONNX\sRuntime's WebAssembly (\d+) MB \((\d+) MB/;
  if (process.env["HALFSTEP_WRITE_SIZES"]) {
    const [js, packed, binary, packedBinary] = measured.map(Math.round);
    const line = `about ${js} kB of JavaScript (${packed} kB compressed), ONNX\nRuntime's WebAssembly ${binary} MB (${packedBinary} MB`;
    await writeFile(path, text.replace(sizes, line));
    return;
  }
  const stated = sizes.exec(text)!.slice(1).map(Number);
  for (const [i, size] of measured.entries()) {
    const message = `docs/browser.md says ${stated[i]}: HALFSTEP_WRITE_SIZES=1 npm run test:package writes what it is`;
    expect(Math.abs(size / stated[i]! - 1), `${size}; ${message}`).toBeLessThan(0.1);
  }
});

it.each([
  [/^index-.*\.js$/, pageBudget.page],
  [/^web-worker-.*\.js$/, pageBudget.worker],
])("the page's %s stays within its budget of %d kB compressed", async (file, kilobytes) => {
  const assets = join(page, "dist/assets");
  const [name, ...others] = (await readdir(assets)).filter((each) => file.test(each));
  expect(others).toEqual([]);
  expect(gzipSync(await readFile(join(assets, name!))).length / 1e3).toBeLessThan(kilobytes);
});

it("webpack: the same page is built and draws", async () => {
  const folder = join(project, "webpack-page");
  await writeApp(project, "webpack-page", "docs/browser.md", "With webpack");
  await writeIn(folder, "main.mjs", await readFile(join(page, "src/main.ts"), "utf8"));
  await run(bin("webpack"), ["--config", "webpack.config.mjs"], { cwd: folder });
  const site = join(folder, "dist");
  await writeFile(join(site, "index.html"), '<body><script type="module" src="./main.js"></script></body>');
  expect(await opened(site)).toBeGreaterThan(100);
});
