/** The page in examples/browser, bundled by its own settings: it draws what Node draws. */
import { fileURLToPath } from "node:url";
import { build } from "vite";
import { expect, it } from "vitest";
import { TextToImagePipeline } from "../../src/pipelines/text-to-image.ts";
import { compare } from "../../src/verify/compare.ts";
import { temporaryFolder } from "../support/models.ts";
import { launchChromium } from "./chromium.ts";
import { serve } from "./server.ts";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

it("draws the prompt that is typed, and says how far it is", async () => {
  const outDir = await temporaryFolder();
  const configFile = here("../../examples/browser/vite.config.ts");
  await build({ configFile, logLevel: "error", build: { outDir, emptyOutDir: true, copyPublicDir: false } });
  const server = await serve({ "/": outDir, "/fluent-emoji/": here("../../checkpoints/fluent-emoji") });
  const browser = await launchChromium();
  try {
    const page = await browser.newPage();
    await page.goto(`${server.url}/index.html`);
    expect(server.requests.filter((line) => line.includes("fluent-emoji"))).toEqual([]);
    await page.fill("input[name=prompt]", "a red apple");
    await page.click("button[type=submit]");
    await page.waitForFunction(() => document.querySelector("output")!.textContent!.startsWith("Step "));
    await page.waitForFunction(() => document.querySelector("output")!.textContent === "Done.");
    const drawn = await page.evaluate(() => {
      const canvas = document.querySelector("canvas")!;
      return [...canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height).data];
    });
    const pipe = await TextToImagePipeline.fromPretrained("fluent-emoji");
    const { images } = await pipe("a red apple", { steps: 20, seed: 7 });
    const pixels = drawn.filter((_, i) => i % 4 !== 3);
    expect(compare("pixels", pixels, images[0]!.data).maxAbs).toBeLessThanOrEqual(1);
    await pipe.release();
  } finally {
    await browser.close();
    await server.close();
  }
});
