/** Memory and time of one UNet call with guidance at a published size, each way of running it in a process of its own. */
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { readConfig } from "../../checkpoints/diffusers-folder.ts";
import { openWeights } from "../../checkpoints/weights.ts";
import { buildModel, describeModel, type StagedModel } from "../../models/architecture.ts";
import { architectureOf } from "../../models/registry.ts";
import { namedWeights, StagedSession } from "../../models/staged-session.ts";
import { checkpointWeights, weightLocations } from "../../models/weights.ts";
import { nodeRuntime } from "../../runtime/node.ts";
import { describeBytes, parseBytes } from "../../streamlined/bytes.ts";
import { activationBytes, costSource } from "../../streamlined/cost.ts";
import { flowOf } from "../../streamlined/grouping.ts";
import { multiplyAddsOfModel } from "../../streamlined/multiply-adds.ts";
import { OVERHEAD, planFor, WEIGHT_SHARE } from "../../streamlined/planner.ts";
import { StreamlinedSession } from "../../streamlined/session.ts";
import { floatOf, sizeOf } from "../../tensor.ts";
import { compare } from "../../verify/compare.ts";
import { multiplicationsPerSecond, tellEstimate } from "../estimate.ts";
import { steadyAllocator } from "../memory.ts";
import { note, print } from "../terminal.ts";
import { randomFeeds, randomNetwork } from "./random-network.ts";

interface Size {
  readonly preset: string;
  readonly frames: number;
  /** Size of the latent. */
  readonly height: number;
  readonly width: number;
  readonly tokens: number;
  /** Budgets to run besides one session and the largest plan, unless others are given. */
  readonly budgets: readonly string[];
}

const animatediff = { preset: "animatediff", frames: 16, tokens: 77 };
const sizes: Readonly<Record<string, Size>> = {
  "animatediff-128": { ...animatediff, height: 16, width: 16, budgets: ["800MB", "1GB", "6GB"] },
  "animatediff-256": { ...animatediff, height: 32, width: 32, budgets: ["800MB", "1.2GB", "6GB"] },
  "animatediff-512": { ...animatediff, height: 64, width: 64, budgets: ["1.2GB", "2.2GB", "8GB"] },
  "animatediff-1024x576": { ...animatediff, height: 72, width: 128, budgets: ["2GB", "6GB", "12GB"] },
  "svd-1024x576": { preset: "svd", frames: 14, tokens: 1, height: 72, width: 128, budgets: ["2GB", "8GB", "12GB"] },
};
export const streamlinedGeometries = Object.keys(sizes);

export const ONE_SESSION = "one session";

export interface MemoryRow {
  mode: string;
  /** Largest resident memory of the process, by the operating system. */
  peakBytes: number;
  /** The peak that the planner predicted; null for one session. */
  predictedBytes: number | null;
  weightBytes: number;
  /** Of the call. Weights that are read in the course of it count. */
  seconds: number;
  /** Before the call. */
  loadSeconds: number;
  /** Difference from the first row, relative to the standard deviation of its output; null in that row. */
  maxRelativeError: number | null;
  /** The first row's mode: one session, if that could run. */
  reference: string;
}

export interface MemoryBenchOptions {
  budgets?: string;
  seed: number;
  threads?: number;
  json?: boolean;
}

/**
 * Runs every mode in a child process and returns the rows. A mode that the machine cannot run is reported and left out.
 */
export async function benchMemory(geometry: string, options: MemoryBenchOptions): Promise<MemoryRow[]> {
  const size = sizes[geometry]!;
  await randomNetwork(size.preset, options.seed);
  const budgets = options.budgets?.split(",") ?? size.budgets;
  const folder = await mkdtemp(join(tmpdir(), "halfstep-bench-"));
  const rows: MemoryRow[] = [];
  let expected: Float32Array | null = null;
  try {
    const needed = await oneSessionBytes(size, options.seed);
    const memory = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
    const fits = needed < memory;
    if (!fits) {
      const [wanted, there] = [needed, memory].map(describeBytes);
      note(`${ONE_SESSION}: left out, it would take some ${wanted} and this machine has ${there}`);
    }
    const modes = [...(fits ? [ONE_SESSION] : []), ...budgets];
    await estimate(size, modes.length, options);
    for (const mode of modes) {
      const out = join(folder, "sample");
      const row = await inChild(geometry, mode, out, options);
      if (!row) continue;
      const values = new Float32Array((await readFile(out)).buffer);
      const maxRelativeError = expected && compare("sample", values, expected).relative;
      rows.push({ ...row, maxRelativeError, reference: rows[0]?.mode ?? mode });
      expected ??= values;
      if (!options.json) await print(rowText(rows.at(-1)!));
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return rows;
}

/**
 * One session keeps its values in an arena that doubles when it grows and is never full. It took at least this many
 * times the memory of the values that are alive at once.
 */
const ARENA = 3.6;

/** Estimates how long all modes will take: for each a process, a session and one call. */
async function estimate(size: Size, modes: number, { seed, threads }: MemoryBenchOptions): Promise<void> {
  const call = multiplyAddsOfModel(await modelOf(size, seed)) / (await multiplicationsPerSecond(threads));
  tellEstimate(modes * (SECONDS_TO_LOAD + call), `${modes} ways of running it, one after the other`);
}

/** Of a process, of which most goes into the compiling of its sessions. */
const SECONDS_TO_LOAD = 8;

async function modelOf({ preset, budgets: _, ...given }: Size, seed: number): Promise<StagedModel> {
  const raw = await readConfig(await randomNetwork(preset, seed));
  const architecture = architectureOf(raw);
  return architecture.model(architecture.parseConfig(raw), { batch: 2, ...given });
}

/** About what a call in one session takes. */
async function oneSessionBytes(size: Size, seed: number): Promise<number> {
  const { source, parameters } = costSource();
  const outputs = buildModel(await modelOf(size, seed), source);
  const weights = [...parameters.values()].reduce((sum, { shape }) => sum + 4 * sizeOf(shape as number[]), 0);
  return OVERHEAD + WEIGHT_SHARE * weights + ARENA * activationBytes(outputs);
}

async function inChild(geometry: string, mode: string, out: string, { seed, threads }: MemoryBenchOptions) {
  const args = ["--geometry", geometry, "--only", mode, "--out", out, "--seed", String(seed)];
  const command = [...process.execArgv, process.argv[1]!, "bench", "streamlined", ...args];
  try {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      threads ? [...command, "--threads", String(threads)] : command,
      { maxBuffer: 2 ** 24, env: { ...process.env, ...steadyAllocator } },
    );
    return JSON.parse(stdout) as Omit<MemoryRow, "maxRelativeError" | "reference">;
  } catch (error) {
    const { signal, stderr } = error as { signal?: string; stderr?: string };
    // What a system does with a process that wants more memory than there is.
    note(`${mode}: ${signal ? `was ended by ${signal}; likely there is not enough memory` : stderr?.trim()}`);
    return null;
  }
}

/** What a child process does: one mode. Its output goes to a file, its figures to stdout. */
export async function measureMode(
  geometry: string,
  mode: string,
  out: string,
  { seed, threads }: MemoryBenchOptions,
): Promise<void> {
  const { preset, budgets: _, ...given } = sizes[geometry]!;
  const folder = await randomNetwork(preset, seed);
  const raw = await readConfig(folder);
  const architecture = architectureOf(raw);
  const model = architecture.model(architecture.parseConfig(raw), { batch: 2, ...given });
  const files = namedWeights(architecture, await openWeights(folder));
  const source = checkpointWeights(files, describeModel(model));
  const options = threads ? { threads } : {};
  const started = performance.now();
  let predictedBytes: number | null = null;
  let session: StagedSession | StreamlinedSession;
  if (mode === ONE_SESSION) {
    session = await StagedSession.compile(nodeRuntime, model, source, weightLocations(files), options);
  } else {
    const { plan, prediction } = planFor(flowOf(model), { memory: parseBytes(mode) });
    predictedBytes = Math.round(prediction.peak);
    session = await StreamlinedSession.compile(nodeRuntime, model, source, weightLocations(files), plan, options);
  }
  const feeds = randomFeeds(model, seed);
  const loaded = performance.now();
  const sample = floatOf(await session.run(feeds), "sample");
  const seconds = (performance.now() - loaded) / 1000;
  const peakBytes = nodeRuntime.peakMemory()!;
  await writeFile(out, new Uint8Array(sample.data.buffer, sample.data.byteOffset, sample.data.byteLength));
  const row = {
    mode,
    peakBytes,
    predictedBytes,
    weightBytes: files.bytes,
    seconds,
    loadSeconds: (loaded - started) / 1000,
  };
  await print(JSON.stringify(row));
}

/**
 * Throws ArgumentError for budgets that cannot be read. A budget that is too small is no error here: that mode is
 * reported and left out.
 */
export function checkBudgets(text: string): void {
  for (const budget of text.split(",")) parseBytes(budget);
}

export const rowText = ({ mode, peakBytes, predictedBytes, seconds, loadSeconds, ...row }: MemoryRow) =>
  `${mode.padEnd(12)} peak ${describeBytes(peakBytes).padStart(8)}` +
  (predictedBytes === null ? "" : `, predicted ${describeBytes(predictedBytes).padStart(8)}`) +
  `, ${seconds.toFixed(1)} s (and ${loadSeconds.toFixed(1)} s before)` +
  (row.maxRelativeError === null ? "" : `, ${row.maxRelativeError.toExponential(1)} off ${row.reference}`);
