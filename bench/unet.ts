/** Stable Diffusion's UNet as the bench of families measures it by itself: one call with guidance. */
import { readConfig } from "../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../src/checkpoints/node.ts";
import { openWeights } from "../src/checkpoints/weights.ts";
import { randomFeeds } from "../src/cli/bench/random-network.ts";
import { buildModel, describeModel } from "../src/models/architecture.ts";
import { loadModel, type StagedOptions, type StagedSession } from "../src/models/staged-session.ts";
import { unet2DCondition } from "../src/models/unet-2d-condition.ts";
import { checkpointWeights, weightLocations } from "../src/models/weights.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import type { SessionOptions } from "../src/runtime/runtime.ts";
import { activationBytes, costSource } from "../src/streamlined/cost.ts";
import { flowOf } from "../src/streamlined/grouping.ts";
import { multiplyAddsOfModel } from "../src/streamlined/multiply-adds.ts";
import { planFor } from "../src/streamlined/planner.ts";
import { StreamlinedSession } from "../src/streamlined/session.ts";

/** With and without the prompt, CLIP's tokens. */
const GEOMETRY = { batch: 2, tokens: 77 };

export async function openUNet(path: string) {
  const folder = new NodeFolder(path);
  const config = unet2DCondition.parseConfig(await readConfig(folder));
  const weights = await openWeights(folder);
  const model = unet2DCondition.model(config, GEOMETRY);
  return {
    weights,
    multiplyAdds: multiplyAddsOfModel(model),
    /** Bytes of the values that are in memory at one time. */
    values: activationBytes(buildModel(model, costSource().source)),
    feeds: (seed: number) => randomFeeds(model, seed),
    /** In one session, as pipelines run it without a budget. */
    load: (options: StagedOptions): Promise<StagedSession> =>
      loadModel(nodeRuntime, unet2DCondition, config, weights, GEOMETRY, options),
    /** By the plan that it has under a large budget. */
    loadPlanned: (options: SessionOptions): Promise<StreamlinedSession> => {
      const { plan } = planFor(flowOf(model), { memory: Number.POSITIVE_INFINITY });
      const source = checkpointWeights(weights, describeModel(model));
      return StreamlinedSession.compile(nodeRuntime, model, source, weightLocations(weights), plan, options);
    },
  };
}
