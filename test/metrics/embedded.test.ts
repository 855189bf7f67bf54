/** The judge that comes with the package, and `halfstep eval` with it. */
import { execFile, spawn } from "node:child_process";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { evaluateCeilings } from "../../src/metrics/evaluate.ts";
import { Judge } from "../../src/metrics/judge.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { temporaryFolder } from "../support/models.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = join(root, "checkpoints/emoji-align");

describe("emoji-align", () => {
  let judge: Judge;
  beforeAll(async () => {
    judge = await Judge.open(new NodeFolder(folder), nodeRuntime, { threads: 1 });
  });
  afterAll(() => judge.release());

  it("has at most 6 MB", async () => {
    const files = await readdir(folder, { recursive: true, withFileTypes: true });
    const sizes = await Promise.all(
      files.filter((file) => file.isFile()).map((file) => stat(join(file.parentPath, file.name))),
    );
    expect(sizes.reduce((sum, { size }) => sum + size, 0)).toBeLessThan(6e6);
  });

  it("finds the captions of real pictures, and of what the autoencoder makes of them", async () => {
    const { real, roundTrip } = await evaluateCeilings(judge, 512);
    expect(real.retrievalTop1).toBeGreaterThan(0.92);
    expect(real.retrievalTop5).toBeGreaterThan(0.99);
    expect(roundTrip.retrievalTop1).toBeGreaterThan(0.9);
    expect(real.fdData).toBeLessThan(roundTrip.fdData);
  });

  it("finds the picture of a caption by its words", async () => {
    const { captions, real } = await judge.reference();
    const texts = ["a red apple", "a green apple", "a grey elephant"];
    const embedded = await judge.embedCaptions(texts);
    const width = embedded.shape[1]!;
    const nearest = texts.map((_, i) => {
      const row = embedded.data.subarray(i * width, (i + 1) * width);
      const near = Array.from({ length: real.embeds.shape[0]! }, (_, picture) =>
        row.reduce((sum, value, j) => sum + value * real.embeds.data[picture * width + j]!, 0),
      );
      return near.indexOf(Math.max(...near));
    });
    const pictureOf = (text: string) => captions.find((caption) => caption.text === text)!.picture;
    expect(nearest).toEqual(["a red apple", "a green apple", "an elephant"].map(pictureOf));
  });
});

describe("halfstep eval", () => {
  const command = ["--import", "tsx", join(root, "src/cli/main.ts"), "eval"];
  let model: string;
  beforeAll(async () => {
    model = (await writeTinyPipeline(await temporaryFolder(), "pixart")).path;
  });
  const run = (...args: string[]) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      const all = [...command, model, "--samples", "4", "--steps", "2", "--threads", "1", ...args];
      execFile(process.execPath, all, { cwd: root }, (error, stdout, stderr) => {
        resolve({ code: error ? Number(error.code) : 0, stdout, stderr });
      });
    });

  it("prints the figures of the model and of both ceilings as JSON, the same for the same seed", async () => {
    const [first, second] = [await run("--json", "--quiet"), await run("--json", "--batch", "3")];
    expect(first).toMatchObject({ code: 0, stderr: "" });
    const [a, b] = [JSON.parse(first.stdout), JSON.parse(second.stdout)] as Record<string, unknown>[];
    expect(a).toMatchObject({ samples: 4, model, steps: 2, guidanceScale: 4.5, seed: 0 });
    for (const scores of [a, a!["real"], a!["roundTrip"]] as Record<string, unknown>[]) {
      for (const name of ["fdData", "alignment", "retrievalTop1", "retrievalTop5"]) {
        expect(scores[name]).toEqual(expect.any(Number));
      }
    }
    expect(b!["alignment"]).toBeCloseTo(a!["alignment"] as number, 3);
  });

  it("says as text that its distance is not comparable with published ones", async () => {
    const { code, stdout } = await run();
    expect(code).toBe(0);
    expect(stdout).toMatch(/fdData +alignment +retrievalTop1 +retrievalTop5/);
    expect(stdout).toMatch(/real pictures.*\n/);
    expect(stdout).toContain("not comparable with published FIDs");
  });

  it("stops without figures when it is interrupted", async () => {
    const child = spawn(process.execPath, [...command, model, "--samples", "100000"], { cwd: root });
    const text = { stdout: "", stderr: "" };
    for (const stream of ["stdout", "stderr"] as const) {
      child[stream].on("data", (some: Buffer) => {
        text[stream] += some.toString();
      });
    }
    setTimeout(() => child.kill("SIGINT"), 2500);
    const code = await new Promise((resolve) => child.on("close", resolve));
    expect(code).not.toBe(0);
    expect(text.stdout).toBe("");
    // Nothing at all if it had not even begun.
    expect(text.stderr === "" || text.stderr.includes("there are no figures")).toBe(true);
  });
});
