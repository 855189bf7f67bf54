import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decode } from "fast-png";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { halfstep, root } from "../support/cli.ts";
import { fixture } from "../support/golden.ts";
import { tinySize, writeTinyPipeline } from "../support/tiny-pipeline.ts";

const command = ["--import", "tsx", join(root, "src/cli/main.ts")];

let folder: string;
let model: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "halfstep-cli-"));
  model = join(folder, "model");
  await writeTinyPipeline(model, "pixart");
});
afterAll(() => rm(folder, { recursive: true }));

const draw = (...args: string[]) => halfstep("generate", "a red cat", "--model", model, ...args);

describe("halfstep generate", () => {
  it("writes a picture with its prompt, seed, model and settings", async () => {
    const out = join(folder, "one.png");
    const { code, stdout } = await draw("--out", out, "--seed", "7", "--steps", "3", "--json");
    expect(code).toBe(0);
    const report = JSON.parse(stdout) as Record<string, unknown>;
    expect(report).toMatchObject({ prompt: "a red cat", seeds: [7], files: [out], steps: 3, model });
    const { width, height, text } = decode(await readFile(out));
    expect([width, height]).toEqual([tinySize, tinySize]);
    expect(text).toMatchObject({ prompt: "a red cat", seed: "7" });
    expect(JSON.parse(text["settings"]!)).toMatchObject({ model, steps: 3, guidanceScale: 4.5 });
  });

  it("guides in the steps that it is told, and writes which they were", async () => {
    const files = await Promise.all(
      ["0:1", "0.5:1", "1:1"].map(async (interval) => {
        const out = join(folder, `interval-${interval.replace(":", "-")}.png`);
        const { code } = await draw("--out", out, "--seed", "7", "--steps", "4", "--guidance-interval", interval);
        expect(code).toBe(0);
        const { data, text } = decode(await readFile(out));
        expect(JSON.parse(text["settings"]!)).toMatchObject({ guidanceInterval: interval.split(":").map(Number) });
        return data;
      }),
    );
    expect(files[1]).not.toEqual(files[0]);
    expect(files[2]).not.toEqual(files[1]);
  });

  it("makes a contact sheet of several, each the picture of its own seed", async () => {
    const out = join(folder, "many.png");
    await draw("--out", out, "--seed", "6", "--count", "3", "--steps", "3");
    const files = (await readdir(folder)).filter((name) => name.startsWith("many")).sort();
    expect(files).toEqual(["many-1.png", "many-2.png", "many-3.png", "many-sheet.png"]);
    const second = decode(await readFile(join(folder, "many-2.png")));
    expect(second.text["seed"]).toBe("7");
    const alone = decode(await readFile(join(folder, "one.png")));
    const differences = Array.from(second.data, (value, i) => Math.abs(value - alone.data[i]!));
    expect(Math.max(...differences)).toBeLessThanOrEqual(1);
  });

  it.each([
    [["--steps", "0"], "from 1 to 1000"],
    [["--out", "picture.tiff"], "must end in .png, .jpg or .webp"],
    [["--out", "/no/such/folder/a.png"], "there is no folder"],
    [["--model", "no-such-model"], "no Hub id (owner/name)"],
    [["--width", "33"], "multiple of"],
    [["--guidance-interval", "0.5"], "must be two numbers from 0 to 1"],
    [["--guidance-interval", "0.5:2"], "must be two numbers from 0 to 1"],
    [["--scheduler", "magic"], "Allowed choices are ddim"],
  ])("refuses %j in one line that says why", async (args, reason) => {
    const { code, stderr } = await halfstep(
      "generate",
      "a cat",
      "--model",
      model,
      "--out",
      join(folder, "bad.png"),
      ...args,
    );
    expect(code).not.toBe(0);
    expect(stderr).toContain(reason);
    expect(stderr).not.toContain("    at ");
    expect(await readdir(folder)).not.toContain("bad.png");
  });

  it("leaves nothing half-written when it is interrupted", async () => {
    const out = join(folder, "interrupted.png");
    const child = spawn(
      process.execPath,
      [...command, "generate", "a cat", "--model", model, "--out", out, "--steps", "900", "--count", "256"],
      { cwd: root },
    );
    let errors = "";
    child.stderr.on("data", (text: Buffer) => {
      errors += text.toString();
    });
    // Long enough for it to have begun, far less than 900 steps of 256 pictures take.
    setTimeout(() => child.kill("SIGINT"), 1500);
    const code = await new Promise((resolve) => child.on("close", resolve));
    // Node itself ends it (null) if it comes before the command has begun.
    expect([130, null]).toContain(code);
    expect(errors === "" || errors.includes("nothing was written")).toBe(true);
    expect((await readdir(folder)).filter((name) => name.startsWith("interrupted"))).toEqual([]);
  });
});

describe("halfstep verify", () => {
  it("prints each output's error, and passes", async () => {
    const { code, stdout } = await halfstep(
      "verify",
      fixture("t5").path,
      fixture("schedulers/ddim-eta").path,
      "--json",
    );
    expect(code).toBe(0);
    const [text, scheduler] = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(text).toMatchObject({
      class: "T5EncoderModel",
      pass: true,
      outputs: [{ name: "output.last_hidden_state" }],
    });
    expect(scheduler).toMatchObject({ class: "DDIMScheduler", pass: true });
  });

  it("ends with 1 above the tolerance", async () => {
    const { code, stdout } = await halfstep("verify", fixture("t5").path, "--tolerance", "1e-12");
    expect(code).toBe(1);
    expect(stdout).toContain("FAIL");
  });
});

describe("halfstep info", () => {
  it("refuses a folder without a configuration, and a damaged one", async () => {
    const empty = await mkdtemp(join(folder, "empty-"));
    const none = await halfstep("info", empty);
    expect(none.code).toBe(1);
    expect(none.stderr).toContain("has no configuration");
    await writeFile(join(empty, "config.json"), "{");
    const damaged = await halfstep("info", empty);
    expect(damaged.code).toBe(1);
    expect(damaged.stderr).toMatch(/^CheckpointError: .*config\.json/);
  });

  it("says what a pipeline consists of", async () => {
    const { code, stdout } = await halfstep("info", fixture("pipelines/dit").path, "--json");
    expect(code).toBe(0);
    const info = JSON.parse(stdout) as {
      class: string;
      components: { name: string; class: string; parameters: number; blocks: number }[];
    };
    expect(info.class).toBe("DiTPipeline");
    expect(info.components.find(({ name }) => name === "transformer")).toMatchObject({
      class: "DiTTransformer2DModel",
      blocks: 2,
    });
  });
});
