/** Stable Diffusion's UNet as the bench of families measures it by itself: one call with guidance. */
import { readConfig } from "../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../src/checkpoints/node.ts";
import { openWeights } from "../src/checkpoints/weights.ts";
import { randomFeeds } from "../src/cli/bench/random-network.ts";
import { buildModel } from "../src/models/architecture.ts";
import { loadModel, type StagedOptions, type StagedSession } from "../src/models/staged-session.ts";
import { unet2DCondition } from "../src/models/unet-2d-condition.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import { activationBytes, costSource } from "../src/streamlined/cost.ts";
import { multiplyAddsOfModel } from "../src/streamlined/multiply-adds.ts";

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
    load: (options: StagedOptions): Promise<StagedSession> =>
      loadModel(nodeRuntime, unet2DCondition, config, weights, GEOMETRY, options),
  };
}
