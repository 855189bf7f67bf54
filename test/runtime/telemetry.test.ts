/** Nothing leaves the process and nothing is kept in the user's home: what ONNX Runtime would do by default. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TextToImagePipeline } from "../../src/index.ts";
import { root } from "../support/cli.ts";
import { writeTinyPipeline } from "../support/tiny-pipeline.ts";

const source = (path: string) => JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href);
const inWorker = (program: string) => `
  const { Worker } = require("node:worker_threads");
  new Worker(${JSON.stringify(`import("tsx/esm/api").then(async ({ register }) => { register(); ${program} })`)}, { eval: true });`;

let folder: string;
let model: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "halfstep-telemetry-"));
  model = join(folder, "model");
  await writeTinyPipeline(model, "pixart");
});
afterAll(() => rm(folder, { recursive: true }));

interface Outcome {
  code: number | string | null;
  stdout: string;
  stderr: string;
  sockets: string[];
}

/** Internet sockets that a process has now; none where there is no /proc. tsx talks to its compiler by sockets of another kind. */
function socketsOf({ pid }: ChildProcess): string[] {
  try {
    const targets = readdirSync(`/proc/${pid}/fd`).map((descriptor) => readlinkSync(`/proc/${pid}/fd/${descriptor}`));
    const inodes = targets.flatMap((target) => /^socket:\[(\d+)\]$/.exec(target)?.[1] ?? []);
    const tables = ["tcp", "tcp6", "udp", "udp6"].map((table) => readFileSync(`/proc/${pid}/net/${table}`, "utf8"));
    const lines = tables.flatMap((table) => table.trim().split("\n").slice(1));
    return lines.filter((line) => inodes.includes(line.trim().split(/\s+/)[9]!));
  } catch {
    return [];
  }
}

async function run(args: string[], environment: Record<string, string | undefined> = {}): Promise<Outcome> {
  const home = join(folder, "home");
  await rm(home, { recursive: true, force: true });
  await mkdir(home);
  const env = { PATH: process.env["PATH"], HOME: home, USERPROFILE: home, ...environment };
  const child = spawn(process.execPath, ["--import", "tsx", ...args], { cwd: root, env });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (data) => (stdout += data));
  child.stderr.on("data", (data) => (stderr += data));
  const sockets = new Set<string>();
  const watch = setInterval(() => socketsOf(child).forEach((socket) => void sockets.add(socket)), 2);
  const code = await new Promise<number | string | null>((resolve) =>
    child.on("close", (exit, signal) => resolve(signal ?? exit)),
  );
  clearInterval(watch);
  expect(await readdir(home)).toEqual([]);
  return { code, stdout, stderr, sockets: [...sockets] };
}

const draws = `
  const { TextToImagePipeline } = await import(${source("index.ts")});
  const pipe = await TextToImagePipeline.fromPretrained(process.env.MODEL);
  const { images } = await pipe("a red cat", { steps: 2, seed: 1 });
  await new Promise((resolve) => setTimeout(resolve, 300));
  console.log(images.length);`;

describe("with an empty home", () => {
  it("the library writes nothing and opens no socket", async () => {
    const outcome = await run(["--input-type=module", "-e", draws], { MODEL: model });
    expect(outcome).toEqual({ code: 0, stdout: "1\n", stderr: "", sockets: [] });
  });

  it("nor does it in a worker thread that the main thread knows nothing of", async () => {
    const outcome = await run(["-e", inWorker(draws)], { MODEL: model });
    expect(outcome).toEqual({ code: 0, stdout: "1\n", stderr: "", sockets: [] });
  });

  it("nor does the command, with a prompt of 30,000 characters", async () => {
    const prompt = "a red cat ".repeat(3000);
    const out = join(folder, "long.png");
    const command = ["src/cli/main.ts", "generate", prompt, "--model", model, "--steps", "2", "--out", out];
    expect(await run(command)).toMatchObject({ code: 0, sockets: [] });
    expect(await readdir(folder)).toContain("long.png");
  });
});

describe("disableTelemetry", () => {
  // The environment as native code sees it, which process.env in a worker thread is not.
  const prints = `
    const { disableTelemetry } = await import(${source("runtime/telemetry-node.ts")});
    await disableTelemetry();
    console.log(process.report.getReport().environmentVariables.ORT_DISABLE_TELEMETRY);`;

  it.each([undefined, "0"])("leaves a value that the environment has: %s", async (given) => {
    const environment = given === undefined ? {} : { ORT_DISABLE_TELEMETRY: given };
    const expected = { code: 0, stdout: `${given ?? "1"}\n`, stderr: "" };
    expect(await run(["--input-type=module", "-e", prints], environment)).toMatchObject(expected);
    expect(await run(["-e", inWorker(prints)], environment)).toMatchObject(expected);
  });
});

it("takes prompts of a million characters, and draws what their first tokens say", async () => {
  const pipe = await TextToImagePipeline.fromPretrained(model, { threads: 1 });
  const draw = async (repetitions: number) => {
    const { images } = await pipe("a red cat ".repeat(repetitions), { steps: 2, seed: 1 });
    return images[0]!.data;
  };
  expect(await draw(100_000)).toEqual(await draw(1_000));
  await pipe.release();
});
