/**
 * T-GATE (arXiv 2404.02747): after some steps cross-attention to the text adds nearly the same at every step. From the gate on it adds what
 * it added at the last step before, and the network runs once a step, without guidance. Needs no training.
 *
 * With guidance, what is kept is the mean of what is added with the condition and without it, and what the network is told beside the text
 * is that of the half without it, as in the authors' code. Their second version also leaves out self-attention in some steps; this is the
 * first.
 */
import { ArgumentError } from "../errors.ts";
import type { CrossAttention, StagedModel } from "../models/architecture.ts";
import type { StagedSession } from "../models/staged-session.ts";
import type { Denoiser, Feeds } from "../sampling/denoiser.ts";
import { rows, stack } from "../sampling/guidance.ts";
import { countOption, type Method } from "../sampling/method.ts";
import type { Action, StepContext } from "../sampling/step-policy.ts";
import { type FloatTensor, floatOf, floatTensor } from "../tensor.ts";

/** A network that can give what its cross-attentions add, and can be given it. */
export interface GatedNetwork {
  readonly model: StagedModel;
  /** The network as a model whose cross-attentions are kept or given. */
  gated(crossAttention: CrossAttention): StagedModel;
  /** The same compiled, each when it is called. Asking for one may release the other, so that no weights are in memory twice. */
  gates(): (crossAttention: CrossAttention) => Promise<StagedSession>;
}

/** A gate for a run of so many steps. */
export type Gate = (steps: number) => number;

/** Of 25 steps 10, as published for Stable Diffusion. */
const usualGate: Gate = (steps) => Math.ceil(0.4 * steps);

export class TGate implements Denoiser {
  readonly actions: Action[] = [];
  readonly #session: ReturnType<GatedNetwork["gates"]>;
  readonly #gate: Gate;
  #kept: Readonly<Record<string, FloatTensor>> | null = null;

  constructor(session: ReturnType<GatedNetwork["gates"]>, gate: Gate = usualGate) {
    this.#session = session;
    this.#gate = gate;
  }

  async run(feeds: Feeds, { index, steps, guided = false }: StepContext): Promise<FloatTensor> {
    const gate = this.#gate(steps);
    if (this.#kept && index >= gate) {
      this.actions.push("inner");
      const session = await this.#session("given");
      const given = guided ? mapTensors(feeds as Record<string, FloatTensor>, firstHalf) : feeds;
      const sample = floatOf(await session.run({ ...given, ...this.#kept }), "sample");
      // Guidance between two equal halves changes nothing.
      return guided ? stack(sample, sample) : sample;
    }
    this.actions.push("full");
    const { sample, ...added } = (await (await this.#session("kept")).run(feeds)) as Record<string, FloatTensor>;
    if (index >= gate - 1) this.#kept = guided ? mapTensors(added, meanOfHalves) : added;
    return sample!;
  }
}

const mapTensors = (tensors: Readonly<Record<string, FloatTensor>>, f: (tensor: FloatTensor) => FloatTensor) =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, f(tensor)]));

const firstHalf = (tensor: FloatTensor) => rows(tensor, 0, tensor.shape[0]! / 2);

function meanOfHalves({ shape, data }: FloatTensor): FloatTensor {
  const half = data.length / 2;
  const mean = Float32Array.from({ length: half }, (_, i) => (data[i]! + data[half + i]!) / 2);
  return floatTensor([shape[0]! / 2, ...shape.slice(1)], mean);
}

/** More than a run has steps. */
const MOST_STEPS = 4096;

export interface TGateSettings {
  /** How many steps attend to the text: 10 of 25 unless given, the same share of others. */
  gate?: number;
}

export const tGate: Method<"tgate", "transformer" | "unet", GatedNetwork, TGateSettings> = {
  name: "tgate",
  summary: "cross-attention adds what it added at the last step before the gate, and there is no guidance",
  source: "T-GATE, arXiv 2404.02747",
  networks: ["transformer", "unet"],
  crossAttention: true,
  options: {
    gate: countOption(1, MOST_STEPS, {
      help: "how many steps attend to the text",
      usual: "10 of 25, the same share of others",
    }),
  },
  cuts: (network) => {
    checkAttention(network);
    return [];
  },
  async open(network, { gate }) {
    checkAttention(network);
    const session = network.gates();
    await session("kept");
    return () => new TGate(session, gate === undefined ? usualGate : () => gate);
  },
};

/** Throws ArgumentError for a network without cross-attention. */
function checkAttention({ model, gated }: GatedNetwork): void {
  if (gated("kept").outputs.length > model.outputs.length) return;
  throw new ArgumentError(
    `tgate is for networks with cross-attention to a text, such as PixArt and Stable Diffusion; ${model.className} has none.`,
  );
}
