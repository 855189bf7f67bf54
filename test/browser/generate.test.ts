/** Pictures made in headless Chromium, on onnxruntime-web, against those that Node makes. `npm run test:browser` */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { readdir, readFile, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import type { Browser, Page } from "playwright-core";
import { build } from "vite";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import type { FloatTensor } from "../../src/tensor.ts";
import { compare } from "../../src/verify/compare.ts";
import { inWorker } from "../../vite.worker.ts";
import { temporaryFolder } from "../support/models.ts";
import { pageBudget } from "../support/page-budget.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";
import { launchChromium } from "./chromium.ts";
import type { Asked, Made } from "./page/main.ts";
import { type StaticServer, serve } from "./server.ts";

const embedded = fileURLToPath(new URL("../../checkpoints/fluent-emoji", import.meta.url));
const models = ["tiny", ...(existsSync(embedded) ? ["fluent-emoji"] : [])];

let folders: Record<string, string>;
let browser: Browser;
let bundle: string;

beforeAll(async () => {
  const tiny = await writeTinyPipeline(await temporaryFolder(), "pixart", { dtype: "F16" });
  bundle = await temporaryFolder();
  folders = { "/": bundle, "/models/tiny/": tiny.path, "/models/fluent-emoji/": embedded };
  await build({
    configFile: false,
    root: fileURLToPath(new URL("./page", import.meta.url)),
    logLevel: "error",
    build: { outDir: bundle, emptyOutDir: true, target: "es2023" },
    worker: { format: "es", plugins: () => [inWorker()] },
  });
  browser = await launchChromium();
});
afterAll(() => browser?.close());

/** Runs in a new page on a new server; also gives the server's requests and what the page complained of. */
async function inBrowser(
  asked: Asked,
  isolated = true,
  chromium = browser,
): Promise<Made & { requests: string[]; complaints: string[]; workers: number }> {
  let server: StaticServer | undefined;
  let page: Page | undefined;
  try {
    server = await serve(folders, isolated);
    page = await chromium.newPage();
    const complaints: string[] = [];
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("console", (message) => {
      // A folder is asked for names that its files may have, and most answers are no.
      if (message.text().includes("404")) return;
      if (["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    await page.goto(`${server.url}/index.html`);
    const made = await page.evaluate((question) => window.make(question), asked);
    return { ...made, requests: server.requests, complaints, workers: page.workers().length };
  } finally {
    await page?.close();
    await server?.close();
  }
}

/** The same on onnxruntime-node. */
async function inNode({ model, prompt, sizes, settings }: Asked): Promise<Made["pictures"]> {
  const name = model.slice("/models/".length);
  const folder = new NodeFolder(folders[`/models/${name}/`]!);
  const pipe = await TextToImagePipeline.fromFolder(folder, nodeRuntime);
  const pictures: Made["pictures"] = [];
  for (const size of sizes) {
    let latents: FloatTensor | undefined;
    const { images } = await pipe(prompt, {
      ...settings,
      ...(size === null ? {} : { width: size, height: size }),
      onStep: (step) => {
        latents = step.latents;
      },
    });
    const decoded = await pipe.decode(latents!);
    pictures.push({
      latents: [...latents!.data],
      decoded: [...decoded.data],
      pixels: [...images[0]!.data],
      seconds: 0,
    });
  }
  await pipe.release();
  return pictures;
}

describe("a page in Chromium", () => {
  it.each(models)("makes the pictures that Node makes, with %s", async (name) => {
    const asked: Asked = {
      model: `/models/${name}`,
      prompt: name === "tiny" ? "a red cat" : "a smiling cat with heart eyes",
      sizes: [null],
      threads: 2,
      settings: { seed: 7, steps: 20, guidanceScale: 4.5 },
    };
    const expected = await inNode(asked);
    const { pictures, isolated, runtime, complaints, workers } = await inBrowser(asked);
    expect(isolated).toBe(true);
    // The page's own thread is the other one.
    expect(workers).toBe(1);
    expect(complaints).toEqual([]);
    for (const [i, { latents, decoded, pixels, seconds }] of pictures.entries()) {
      const errors = {
        latents: compare("latents", latents, expected[i]!.latents).relative,
        decoded: compare("decoded", decoded, expected[i]!.decoded).relative,
        pixels: compare("pixels", pixels, expected[i]!.pixels).maxAbs,
      };
      const figures = Object.entries(errors).map(([key, error]) => `${key} ${error.toExponential(1)}`);
      console.log(`${name} on ${runtime}: ${seconds.toFixed(2)} s; largest errors: ${figures.join(", ")}`);
      expect(errors.latents).toBeLessThanOrEqual(1e-3);
      expect(errors.decoded).toBeLessThanOrEqual(1e-3);
      // 255 levels: a value on the edge of two may fall to either side.
      expect(errors.pixels).toBeLessThanOrEqual(1);
    }
  });

  it("makes them without threads too, on a page that is not cross-origin isolated", async () => {
    const asked: Asked = {
      model: "/models/tiny",
      prompt: "a blue dog",
      sizes: [null],
      settings: { seed: 3, steps: 4, guidanceScale: 2 },
    };
    const [expected] = await inNode(asked);
    const { pictures, isolated, complaints } = await inBrowser(asked, false);
    expect(isolated).toBe(false);
    expect(compare("latents", pictures[0]!.latents, expected!.latents).relative).toBeLessThanOrEqual(1e-3);
    expect(complaints).toEqual([]);
  });

  it("keeps a model's files, asks for nothing but freshness the next time, and notices what is damaged or new", async () => {
    const model = await writeTinyPipeline(await temporaryFolder(), "pixart");
    const server = await serve({ ...folders, "/models/kept/": model.path });
    const context = await browser.newContext();
    const visit = async (worker = false) => {
      const page = await context.newPage();
      await page.goto(`${server.url}/index.html`);
      const before = server.requests.length;
      const made = await page.evaluate((kind) => window.visits.open("/models/kept", kind), worker);
      await page.close();
      const requests = server.requests.slice(before).filter((line) => line.includes("/models/"));
      return { ...made, gets: requests.filter((line) => line.startsWith("GET")) };
    };
    const isWeights = (line: string) => line.endsWith(".safetensors");
    const first = await visit();
    const weights = first.cached.filter(({ url }) => isWeights(url));
    expect(weights).toHaveLength(3);
    for (const { url, bytes, sha256 } of weights) {
      const content = await readFile(join(model.path, new URL(url).pathname.slice("/models/kept/".length)));
      expect({ bytes, sha256 }).toEqual({
        bytes: content.length,
        sha256: createHash("sha256").update(content).digest("hex"),
      });
    }
    // Told of every byte: the last report is of all files, and no report goes back.
    const { loaded, total } = first.progress.at(-1)!;
    expect(loaded).toBe(total);
    expect(total).toBe(first.cached.reduce((sum, { bytes }) => sum + bytes, 0));
    const reports = first.progress.map((report) => report.loaded);
    expect(reports).toEqual([...reports].sort((a, b) => a - b));
    expect(first.gets.filter(isWeights)).toHaveLength(3);

    const second = await visit();
    expect(second.gets).toEqual([]);
    expect(second.pixels).toEqual(first.pixels);
    expect(second.progress.at(-1)).toMatchObject({ loaded: total, total });
    // A worker has the same cache.
    expect((await visit(true)).gets).toEqual([]);

    const page = await context.newPage();
    await page.goto(`${server.url}/index.html`);
    await page.evaluate((url) => window.visits.damage(url), weights[0]!.url);
    expect((await visit()).gets.filter(isWeights)).toHaveLength(1);
    const changed = join(model.path, "vae/diffusion_pytorch_model.safetensors");
    await utimes(changed, new Date(), new Date(Date.now() + 60_000));
    expect((await visit()).gets).toEqual(["GET /models/kept/vae/diffusion_pytorch_model.safetensors"]);

    expect(await page.evaluate(() => window.visits.clear("/models/other"))).toBe(0);
    expect(await page.evaluate(() => window.visits.clear("/models/kept"))).toBe(first.cached.length);
    expect((await visit()).gets).toEqual(first.gets);
    await context.close();
    await server.close();
  });

  it("makes them in a worker of its own, and stays free meanwhile", async () => {
    const asked: Asked = {
      model: "/models/tiny",
      prompt: "a red cat",
      sizes: [null],
      settings: { seed: 7, steps: 40, guidanceScale: 4.5 },
    };
    const [expected] = await inNode(asked);
    const server = await serve(folders);
    const page = await browser.newPage();
    await page.goto(`${server.url}/index.html`);
    const made = await page.evaluate((question) => window.makeInWorker(question), asked);
    await page.close();
    await server.close();
    expect({ error: made.error, steps: made.steps, width: made.width }).toEqual({
      error: "ArgumentError",
      steps: 40,
      width: 16,
    });
    expect(compare("pixels", made.pixels, expected!.pixels).maxAbs).toBeLessThanOrEqual(1);
    console.log(`longest pause of the page: ${made.longestPause.toFixed(0)} ms`);
  });

  it("makes them on WebGPU", async () => {
    // Chromium's software renderer: it computes as a graphics card without halves does, and takes a minute.
    const gpu = await launchChromium(["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]);
    try {
      const asked: Asked = {
        model: "/models/tiny",
        prompt: "a red cat",
        provider: "webgpu",
        sizes: [null],
        settings: { seed: 7, steps: 2, guidanceScale: 4.5 },
      };
      const [expected] = await inNode(asked);
      const { pictures } = await inBrowser(asked, true, gpu);
      const { relative } = compare("latents", pictures[0]!.latents, expected!.latents);
      console.log(`tiny on WebGPU: ${pictures[0]!.seconds.toFixed(1)} s; latents ${relative.toExponential(1)}`);
      expect(relative).toBeLessThanOrEqual(1e-3);
    } finally {
      await gpu.close();
    }
  });

  it("fetches each file of weights once, whatever sizes are made", async () => {
    const { requests, complaints } = await inBrowser({
      model: "/models/tiny",
      prompt: "the happy house",
      sizes: [null, 32, null],
      settings: { seed: 3, steps: 2, guidanceScale: 2 },
    });
    const weights = requests.filter((line) => line.startsWith("GET") && line.endsWith(".safetensors")).sort();
    expect(weights).toEqual([
      "GET /models/tiny/text_encoder/model.safetensors",
      "GET /models/tiny/transformer/diffusion_pytorch_model.safetensors",
      "GET /models/tiny/vae/diffusion_pytorch_model.safetensors",
    ]);
    // Nothing is fetched that WebGPU alone needs.
    expect(requests.filter((line) => line.endsWith(".wasm"))).toHaveLength(1);
    expect(complaints).toEqual([]);
  });

  it("gets errors with their names, which bundlers shorten where they can", async () => {
    const asked: Asked = {
      model: "fluent-emoji",
      prompt: "a red cat",
      sizes: [null],
      settings: { seed: 3, steps: 2, guidanceScale: 2 },
    };
    const name = (question: Asked) => window.make(question).then(String, (error: Error) => error.name);
    const server = await serve(folders);
    const page = await browser.newPage();
    await page.goto(`${server.url}/index.html`);
    expect(await page.evaluate(name, asked)).toBe("ArgumentError");
    expect(await page.evaluate(name, { ...asked, model: "/models/none" })).toBe("CheckpointError");
    await page.close();
    await server.close();
  });

  it("is small", async () => {
    const files = await readdir(join(bundle, "assets"));
    const sizes = await Promise.all(
      files.map(async (file) => ({ file, bytes: (await stat(join(bundle, "assets", file))).size })),
    );
    console.log(sizes.map(({ file, bytes }) => `${file} ${(bytes / 1024).toFixed(0)} KiB`).join("\n"));
    const own = sizes.find(({ file }) => /^index-.*\.js$/.test(file))!;
    const code = await readFile(join(bundle, "assets", own.file));
    expect(gzipSync(code).length / 1e3).toBeLessThan(pageBudget.page);
  });
});
