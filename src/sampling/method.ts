/** A method to do steps in part, as an entry of the table of methods (`acceleration/methods.ts`). */
import { type Check, number, oneOf, readDecimal, text, whole } from "../checks.ts";
import type { StagedModel } from "../models/architecture.ts";
import type { ModelSession } from "../models/staged-session.ts";
import type { Denoiser } from "./denoiser.ts";
import { checkSchedule, parseSchedule, type Schedule, type StepChoice, stepChoiceCheck } from "./step-policy.ts";

/** A row of transformer blocks, a UNet for pictures, or a UNet for videos. */
export const networkKinds = ["transformer", "unet", "video-unet"] as const;
/** What kind of network a method can be for. */
export type NetworkKind = (typeof networkKinds)[number];

/** One entry of the table. `Network` is what the method needs of a network to be opened on it. */
export interface Method<Name extends string, Kind extends NetworkKind, Network, Options extends object> {
  readonly name: Name;
  /** One sentence for help and docs. */
  readonly summary: string;
  /** Where it was published, for docs. */
  readonly source: string;
  /** All kinds for a method that reads nothing but the network's input and output. */
  readonly networks: readonly Kind[];
  /** Whether only models with a trained feedback module can do it. */
  readonly trained?: true;
  /** Whether only networks with cross-attention to a text can do it. */
  readonly crossAttention?: true;
  /** Whether of such a network it sees the output alone. Then it also goes with a plan for the network's memory. */
  readonly ofOutput?: (model: StagedModel) => boolean;
  /** Whether it is only there to compare others with: not offered by its name alone. */
  readonly baseline?: true;
  readonly options: MethodOptions<Options>;
  /**
   * Where a step in part can leave the network or come back in: stages by number, or features by name. None for a method that
   * does not look inside. Throws ArgumentError for options that do not fit this network.
   */
  readonly cuts: (network: Network, options: Options) => readonly (number | string)[];
  /** Compiles what it needs, and returns a function that opens a denoiser for a new run. */
  readonly open: (network: Network, options: Options) => Promise<() => Denoiser>;
  /** How benches set it so that an image takes a given time; absent for a method that is not compared in this way. */
  readonly atEqualTime?: readonly EqualTime<Options>[];
}

/**
 * `threshold`: the highest that is slow enough; `full steps`: as many as there is time for, the others in part; `schedule`: ILF's,
 * whose steps in part cost the same.
 */
export interface EqualTime<Options> {
  readonly by: "threshold" | "full steps" | "schedule";
  /** What the row is called, where it is not the method's name. */
  readonly name?: string;
  readonly options?: Options;
}

/** An option of a method, wherever it is given: to a pipeline, on a command line. Throws ArgumentError for wrong values. */
export interface MethodOption<T> {
  readonly check: Check;
  /** For help and docs. */
  readonly help: string;
  /** The default, in words. */
  readonly usual: string;
  /** The name of its value on a command line, and how it is parsed there. */
  readonly value: string;
  /** Reads what is typed. Throws ArgumentError for what is no value. */
  readonly parse: (text: string) => T;
  /** For completion. */
  readonly choices?: readonly string[];
}

/** An entry's options by name. */
export type MethodOptions<Options extends object> = {
  readonly [Name in keyof Options]-?: MethodOption<NonNullable<Options[Name]>>;
};

/** What a method can do with every network: all steps in full. */
export interface WholeNetwork {
  /** Compiles the network in one piece. Gives what opens a denoiser that does every step in full. */
  whole(): Promise<() => Denoiser>;
}

/** A network that can be compiled in parts which begin at given stages. */
export interface DividedNetwork {
  readonly model: StagedModel;
  /** One part more than there are cuts. */
  inParts(cuts: readonly number[]): Promise<readonly ModelSession[]>;
}

type Words = Pick<MethodOption<unknown>, "help" | "usual">;

export const scheduleOption = (usual: string): MethodOption<StepChoice> => ({
  check: (value, name) => {
    stepChoiceCheck(value, name);
    if (typeof value !== "function") checkSchedule(value as Schedule);
  },
  help: 'full steps; "2" every second, "2:3:1" and 3 first and 1 last, "fif" these',
  usual,
  value: "steps",
  parse: parseSchedule,
});

/** How much change a method lets pass. */
export const thresholdOption = (usual: string): MethodOption<number> =>
  numberOption(0, Number.MAX_VALUE, { help: "change that is let pass", usual }, "change");

export const numberOption = (least: number, most: number, words: Words, value = "number"): MethodOption<number> => ({
  ...words,
  check: number(least, most),
  value,
  parse: readDecimal,
});

export const countOption = (least: number, most: number, words: Words): MethodOption<number> => ({
  ...words,
  check: whole(least, most),
  value: "n",
  parse: readDecimal,
});

export const choiceOption = <const T extends string>(choices: readonly T[], words: Words): MethodOption<T> => ({
  ...words,
  check: oneOf(choices),
  value: "which",
  choices,
  parse: (given) => given as T,
});

export const nameOption = (value: string, words: Words): MethodOption<string> => ({
  ...words,
  check: text,
  value,
  parse: (given) => given,
});
