/** Plans that a model can be run by, at random. */
import { openWeights } from "../../src/checkpoints/weights.ts";
import { namedWeights } from "../../src/models/staged-session.ts";
import { checkpointWeights, weightLocations } from "../../src/models/weights.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { type Flow, flowOf, groupsOf } from "../../src/streamlined/grouping.ts";
import type { Plan, Rehash } from "../../src/streamlined/plan.ts";
import { StreamlinedSession } from "../../src/streamlined/session.ts";
import { type FloatTensor, floatTensor } from "../../src/tensor.ts";
import { unetCase } from "./unets.ts";

/** Groups of any stages, the shorter the likelier; slices of any number; passes that divide the batch. */
export function randomPlan(flow: Flow, batch: number, random: () => number): Plan {
  const counts: number[] = [];
  for (let rest = flow.stages.length; rest > 0; rest -= counts.at(-1)!) {
    counts.push(Math.min(rest, 1 + Math.floor(random() ** 3 * 8)));
  }
  const divisors = Array.from({ length: batch }, (_, i) => i + 1).filter((count) => batch % count === 0);
  const groups = groupsOf(flow, counts).map(({ stages, length }) => ({
    stages: stages.length,
    slices: 1 + Math.floor(random() * Math.min(length, 7)),
    together: random() < 0.5,
  }));
  return { groups, passes: divisors[Math.floor(random() * divisors.length)]!, stream: random() < 0.2 };
}

/** One group for every run of stages with one axis. */
export const planOf = (counts: readonly number[], slices = 1): Plan => ({
  groups: counts.map((stages) => ({ stages, slices, together: true })),
  passes: 1,
  stream: false,
});

/** A UNet's fixture, ready to be run by plans. */
export async function streamlinedCase(name: string) {
  const unet = await unetCase(name);
  const files = namedWeights(unet.architecture, await openWeights(unet.folder));
  const model = unet.architecture.model(unet.config, unet.geometry);
  const source = checkpointWeights(files, name);
  const compile = (plan: Plan, rehash: Rehash | null = null) =>
    StreamlinedSession.compile(nodeRuntime, model, source, weightLocations(files), plan, { threads: 1, rehash });
  return { ...unet, files, model, flow: flowOf(model), source, locations: weightLocations(files), compile };
}

/** The same inputs with another latent, as the next step has them. */
export const moved = (feeds: Readonly<Record<string, FloatTensor>>, by: number) => ({
  ...feeds,
  sample: floatTensor(
    feeds["sample"]!.shape,
    feeds["sample"]!.data.map((x, i) => x + by * Math.sin(i)),
  ),
});
