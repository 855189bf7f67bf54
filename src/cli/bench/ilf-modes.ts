/** The modes that `bench ilf` compares: ILF, and other methods that take the same time. */
import type { Acceleration } from "../../acceleration/acceleration.ts";
import { methodsFor } from "../../acceleration/methods.ts";
import type { TextToImage } from "../../pipelines/text-to-image.ts";
import type { TextToImageOptions } from "../../pipelines/text-to-image-options.ts";
import type { EqualTime } from "../../sampling/method.ts";
import type { Action, Schedule } from "../../sampling/step-policy.ts";
import { trimmedMean } from "./averages.ts";
import { takeTurns, timed } from "./turns.ts";

export interface Mode {
  readonly name: string;
  readonly steps: number;
  readonly acceleration: Acceleration;
}

/** Opens a pipeline of its own for a mode: compiled parts are kept for one way of running at a time. */
export type OpenPipeline = () => Promise<TextToImage>;

/** Costs in milliseconds: an image with F full and I inner steps takes fixed + F * full + I * inner. */
interface Cost {
  readonly fixed: number;
  readonly full: number;
  readonly inner: number;
}

/**
 * Prompts by which settings are found. The steps that a threshold skips differ from prompt to prompt: with twelve
 * prompts, EasyCache could take 6% longer over all prompts.
 */
export const PROMPTS = 48;

/**
 * ILF, and what the table of methods has to compare it with, set so that a picture takes as long as one with ILF does; then plain
 * sampling in fewer steps, and in 50.
 */
export async function modesAtEqualTime(
  open: OpenPipeline,
  prompts: readonly string[],
  { steps, guidanceScale, ilf, signal }: Settings & { ilf: Acceleration },
  onProgress: (done: number, total: number) => void,
): Promise<Mode[]> {
  const some = prompts.filter((_, i) => i % Math.ceil(prompts.length / PROMPTS) === 0).slice(0, PROMPTS);
  const settings = { steps, guidanceScale, signal };
  const ilfPipe = await open();
  const { milliseconds: budget } = await typical(ilfPipe, some, { ...settings, accelerate: ilf });
  const modes: Mode[] = [
    { name: `${steps} full steps`, steps, acceleration: { method: "none" } },
    { name: "ILF", steps, acceleration: ilf },
    ...contests
      .filter(({ by }) => by === "schedule")
      .map(({ name, acceleration }) => ({ name, steps, acceleration: { ...ilf, ...acceleration } })),
  ];
  for (const [i, rival] of rivals.entries()) {
    onProgress(i, rivals.length);
    const pipe = await open();
    const choose = await rival(pipe, some, settings);
    // Costs were measured apart from ILF. So measure side by side, correct the target, and keep the closest setting.
    let target = budget;
    let closest: { mode: Mode; off: number } | null = null;
    for (let i = 0; i < 4 && (closest?.off ?? 1) >= 0.03; i++) {
      const mode = await choose(target);
      const ratio = await besides(ilfPipe, pipe, some, settings, ilf, mode);
      const off = Math.abs(Math.log(ratio));
      if (!closest || off < closest.off) closest = { mode, off };
      target /= ratio;
    }
    modes.push(closest!.mode);
    await pipe.release();
  }
  await ilfPipe.release();
  return [...modes, { name: "50 full steps", steps: 50, acceleration: { method: "none" } }];
}

/** Finds the settings with which an image takes this many milliseconds. */
type Choose = (milliseconds: number) => Promise<Mode>;
type Rival = (pipe: TextToImage, prompts: readonly string[], settings: Settings) => Promise<Choose>;
interface Settings {
  readonly steps: number;
  readonly guidanceScale: number;
  readonly signal: AbortSignal;
}

interface Contest {
  readonly by: EqualTime<unknown>["by"];
  /** Of the row. */
  readonly name: string;
  readonly acceleration: Acceleration;
}

const contests: readonly Contest[] = methodsFor("transformer").flatMap(({ name: method, atEqualTime = [] }) =>
  atEqualTime.map(({ by, name = method, options = {} }) => ({ by, name, acceleration: { method, ...options } })),
);

const byThreshold =
  ({ name, acceleration }: Contest): Rival =>
  async (pipe, prompts, settings) => {
    const at = (threshold: number): Acceleration => ({ ...acceleration, threshold });
    const cost = await costOf(pipe, prompts, settings, at(0), at(1e6));
    return async (milliseconds) => {
      const threshold = await thresholdFor(pipe, prompts, settings, at, cost, milliseconds);
      return { name, steps: settings.steps, acceleration: at(threshold) };
    };
  };

const byFullSteps =
  ({ name, acceleration }: Contest): Rival =>
  async (pipe, prompts, settings) => {
    const { steps } = settings;
    const few: Acceleration = { ...acceleration, schedule: { every: steps + 1, warmUp: 3 } };
    const cost = await costOf(pipe, prompts, settings, { ...acceleration, schedule: { every: 1 } }, few);
    return async (milliseconds) => {
      const { fixed, full, inner } = cost;
      const fullSteps = clamp(Math.round((milliseconds - fixed - steps * inner) / (full - inner)), 3, steps);
      return { name, steps, acceleration: { ...acceleration, schedule: spread(fullSteps, steps) } };
    };
  };

const fewerSteps: Rival = async (pipe, prompts, settings) => {
  const { fixed, full } = await fullCost(pipe, prompts, settings, { method: "none" });
  return async (milliseconds) => {
    const steps = clamp(Math.round((milliseconds - fixed) / full), 1, settings.steps);
    return { name: `${steps} full steps`, steps, acceleration: { method: "none" } };
  };
};

const rivals: readonly Rival[] = [
  ...contests.filter(({ by }) => by === "threshold").map(byThreshold),
  ...contests.filter(({ by }) => by === "full steps").map(byFullSteps),
  fewerSteps,
];

/** Full steps, ILF and 50 full steps beside the others. */
export const MODES = 3 + contests.filter(({ by }) => by === "schedule").length + rivals.length;

/**
 * Images of one mode before the next one has its turn. The first one after a change takes 5 to 10% longer (its weights left the
 * processor's caches), most in modes with many sessions; it is not counted.
 */
export const IN_A_ROW = 8;

/** How many times as long as ILF a mode takes, measured in turns. */
async function besides(
  ilfPipe: TextToImage,
  pipe: TextToImage,
  prompts: readonly string[],
  settings: Settings,
  ilf: Acceleration,
  mode: Mode,
): Promise<number> {
  const rounds = Math.ceil(prompts.length / IN_A_ROW);
  const inTurn = (pipe: TextToImage, steps: number, accelerate: Acceleration) => {
    const all: number[] = [];
    const draw = (seed: number) => timed(() => pipe(prompts[seed]!, { ...settings, steps, seed, accelerate }));
    return {
      all,
      turn: async () => {
        const first = (all.length / IN_A_ROW) % prompts.length;
        await draw(first);
        for (let i = 0; i < IN_A_ROW; i++) all.push(await draw((first + i * rounds) % prompts.length));
        return all.at(-1)!;
      },
    };
  };
  const [ours, theirs] = [inTurn(ilfPipe, settings.steps, ilf), inTurn(pipe, mode.steps, mode.acceleration)];
  await takeTurns({ ilf: ours.turn, rival: theirs.turn }, { rounds, pause: 0, warmUps: 0 });
  return trimmedMean(theirs.all) / trimmedMean(ours.all);
}

/** A schedule with this many full steps: the first three, and the others spread evenly. */
export function spread(full: number, steps: number): Schedule {
  const warmUp = Math.min(3, full);
  const actions = Array.from({ length: steps }, (_, i): Action => (i < warmUp ? "full" : "inner"));
  const rest = full - warmUp;
  for (let i = 1; i <= rest; i++) actions[warmUp - 1 + Math.round((i * (steps - warmUp)) / rest)] = "full";
  return actions;
}

/** The time of an image, averaged as in the rows of the bench. */
async function typical(
  pipe: TextToImage,
  prompts: readonly string[],
  options: TextToImageOptions,
): Promise<{ milliseconds: number; fullSteps: number }> {
  await pipe(prompts[0]!, { ...options, seed: 0 });
  const milliseconds: number[] = [];
  const full: number[] = [];
  for (const [seed, prompt] of prompts.entries()) {
    milliseconds.push(await timed(async () => full.push((await pipe(prompt, { ...options, seed })).fullSteps)));
  }
  return { milliseconds: trimmedMean(milliseconds), fullSteps: trimmedMean(full) };
}

/** From a run whose steps are all full, and one of a single step. */
async function fullCost(
  pipe: TextToImage,
  prompts: readonly string[],
  settings: Settings,
  allFull: Acceleration,
): Promise<Omit<Cost, "inner">> {
  const all = await typical(pipe, prompts, { ...settings, accelerate: allFull });
  const one = await typical(pipe, prompts, { ...settings, steps: 1, accelerate: allFull });
  const full = (all.milliseconds - one.milliseconds) / (settings.steps - 1);
  return { fixed: one.milliseconds - full, full };
}

/** With one more run, which has as few full steps as the method allows. */
async function costOf(
  pipe: TextToImage,
  prompts: readonly string[],
  settings: Settings,
  allFull: Acceleration,
  mostlyInner: Acceleration,
): Promise<Cost> {
  const { fixed, full } = await fullCost(pipe, prompts, settings, allFull);
  const { milliseconds, fullSteps } = await typical(pipe, prompts, { ...settings, accelerate: mostlyInner });
  return { fixed, full, inner: (milliseconds - fixed - fullSteps * full) / (settings.steps - fullSteps) };
}

/** Bisection to a hundredth: a higher threshold leaves out more steps. */
async function thresholdFor(
  pipe: TextToImage,
  prompts: readonly string[],
  settings: Settings,
  at: (threshold: number) => Acceleration,
  { fixed, full, inner }: Cost,
  budget: number,
): Promise<number> {
  let [low, high] = [0.005, 4];
  while (high > 1.01 * low) {
    const threshold = Math.sqrt(low * high);
    const times: number[] = [];
    for (const [seed, prompt] of prompts.entries()) {
      const { fullSteps, innerSteps } = await pipe(prompt, { ...settings, seed, accelerate: at(threshold) });
      times.push(fixed + fullSteps * full + innerSteps * inner);
    }
    if (trimmedMean(times) > budget) low = threshold;
    else high = threshold;
  }
  return high;
}

const clamp = (value: number, least: number, most: number) => Math.min(most, Math.max(least, value));
