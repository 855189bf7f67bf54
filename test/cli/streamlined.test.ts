import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { halfstep } from "../support/cli.ts";
import { temporaryFolder } from "../support/models.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";
import { writeVideoPipeline } from "../support/video-pipelines.ts";

let folder: string;
let model: string;
beforeAll(async () => {
  folder = await temporaryFolder();
  model = (await writeVideoPipeline("animatediff")).path;
});

describe("halfstep animate under a budget", () => {
  const small = [
    "--frames",
    "2",
    "--steps",
    "3",
    "--seed",
    "3",
    "--width",
    "24",
    "--threads",
    "1",
    "--json",
    "--quiet",
  ];

  it("says how many steps were done in part", async () => {
    const out = join(folder, "party.gif");
    const args = ["a cat", "-m", model, "-o", out, ...small, "--memory", "1GB", "--accelerate", "rehash"];
    const { code, stdout, stderr } = await halfstep("animate", ...args, "--schedule", "frr");
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(JSON.parse(stdout)).toMatchObject({ memory: "1GB", accelerate: "rehash", fullSteps: 1, rehashSteps: 2 });
  });

  it.each<[string, string[], string]>([
    [
      "a budget that cannot be kept",
      ["--memory", "20MB"],
      "BudgetError: UNetMotionModel cannot run in 20 MB; the smallest",
    ],
    ["what is no amount", ["--memory", "much"], '"much" is not an amount of memory'],
    [
      "a schedule of nothing",
      ["--schedule", "fr"],
      "say how steps are done in part; they go with --accelerate rehash or deepcache",
    ],
    [
      "a schedule of other steps",
      ["--accelerate", "rehash", "--schedule", "fr"],
      "The schedule has 2 actions, but the run has 3",
    ],
  ])("refuses %s", async (_, args, message) => {
    const out = join(folder, "no.gif");
    const { code, stderr } = await halfstep("animate", "a cat", "-m", model, "-o", out, ...small, ...args);
    expect(code).toBe(1);
    expect(stderr).toContain(message);
    expect(await readdir(folder)).not.toContain("no.gif");
  });
});

describe("halfstep generate under a budget", () => {
  it("says what each part was predicted to take", async () => {
    const path = (await writeTinyPipeline(await temporaryFolder(), "dit")).path;
    const out = join(folder, "class.png");
    const args = ["--class", "7", "-m", path, "-o", out, "--steps", "1", "--threads", "1", "--memory", "600MB"];
    const { code, stdout, stderr } = await halfstep("generate", ...args, "--json");
    expect(code).toBe(0);
    const { memory, planned } = JSON.parse(stdout) as { memory: string; planned: { name: string; peak: number }[] };
    expect({ memory, parts: planned.map(({ name }) => name) }).toEqual({
      memory: "600MB",
      parts: ["denoiser", "decoder"],
    });
    for (const { peak } of planned) expect(peak).toBeLessThanOrEqual(600e6);
    expect(stderr).toMatch(/Memory: denoiser up to \d+ MB, decoder up to \d+ MB\./);
  });
});

describe("halfstep rehash-profile", () => {
  it("writes the map and proposes a cut and a schedule that animate takes", async () => {
    const out = join(folder, "profile");
    const args = [model, "--prompt", "a cat", "--steps", "4", "--full", "2", "--speedup", "1.2", "--frames", "2"];
    const { code, stdout, stderr } = await halfstep(
      "rehash-profile",
      ...args,
      "--width",
      "24",
      "-o",
      out,
      "--json",
      "-q",
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const { cut, schedule, speedup } = JSON.parse(stdout);
    expect(schedule.filter((action: string) => action === "full")).toHaveLength(2);
    expect(speedup).toBeGreaterThanOrEqual(1.2);
    const profile = JSON.parse(await readFile(join(out, "profile.json"), "utf8"));
    const cuts = Object.keys(profile.shares);
    expect(cuts).toContain(cut);
    // A change for every cut and every step but the first.
    expect(profile.changes).toHaveLength(3 * cuts.length);
    for (const { cosine } of profile.changes) expect(Math.abs(cosine)).toBeLessThanOrEqual(1 + 1e-9);
    expect(await readFile(join(out, "map.svg"), "utf8")).toContain(cut);
    const png = await readFile(join(out, "map.png"));
    expect([...png.subarray(1, 4)]).toEqual([...Buffer.from("PNG")]);
  });
});

describe("halfstep bench streamlined --model", () => {
  it("has a row for each way of spending the time, measured against all steps in full", async () => {
    const args = [
      "--model",
      model,
      "--samples",
      "2",
      "--steps",
      "5",
      "--frames",
      "3",
      "--threads",
      "1",
      "--json",
      "-q",
    ];
    const { code, stdout, stderr } = await halfstep("bench", "streamlined", ...args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const { rows } = JSON.parse(stdout);
    const [full, rehash, fewer, again] = rows;
    expect(full).toMatchObject({ mode: "5 full steps", fullSteps: 5, speedup: 1, psnr: 60, ssim: 1 });
    expect(rehash).toMatchObject({ mode: "Step Rehash", fullSteps: 3 });
    expect(fewer.mode).toBe(`${fewer.fullSteps} full steps`);
    expect(again).toMatchObject({ mode: "noise again", fullSteps: 3 });
    expect(full.fdFrames).toBeCloseTo(0, 6);
    for (const row of rows) {
      expect(row.secondsPerVideo).toBeGreaterThan(0);
      expect(row.psnr).toBeGreaterThan(0);
    }
  });
});
