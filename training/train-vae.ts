/**
 * Trains the autoencoder of the embedded model: 64 x 64 pictures to an 8 x 8 latent with 16 channels and back.
 * `npx tsx training/train-vae.ts --steps 4000`; a killed run goes on from its last checkpoint.
 */
import { appendFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { writeSafetensors } from "../src/checkpoints/safetensors-node.ts";
import { abs, add, exp, mul, slice, sub } from "../src/graph/operators.ts";
import { input, type Value } from "../src/graph/value.ts";
import { meanAll } from "../src/graph/vjp.ts";
import { buildModel, weightShapes } from "../src/models/architecture.ts";
import * as vae from "../src/models/autoencoder-kl.ts";
import { parameterWeights } from "../src/models/weights.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import { TorchGenerator } from "../src/sampling/noise.ts";
import { floatTensor } from "../src/tensor.ts";
import { warmupCosine } from "../src/training/adamw.ts";
import { resumeTraining, saveTraining } from "../src/training/checkpoint-node.ts";
import { initialise, Parameters } from "../src/training/parameters.ts";
import { Trainer } from "../src/training/trainer.ts";
import { autoencoderRange, drawAugmentation, loadEmojiData, writeImage } from "./data.ts";
import { seededRandom } from "./random.ts";

const { values: options } = parseArgs({
  options: {
    steps: { type: "string", default: "4000" },
    batch: { type: "string", default: "16" },
    "learning-rate": { type: "string", default: "2e-3" },
    "kl-weight": { type: "string", default: "5e-4" },
    /** Share of pictures that are shown as they are. */
    plain: { type: "string", default: "0.5" },
    seed: { type: "string", default: "0" },
    data: { type: "string", default: "training/data" },
    out: { type: "string", default: "training/runs/vae" },
  },
});
const steps = Number(options.steps);
const batch = Number(options.batch);
const size = 64;
// Quarter turns and strong hues cost a small model more than they teach it about the pictures that it will decode.
const range = { ...autoencoderRange, turns: false, hue: 1 };

const configJson = {
  _class_name: "AutoencoderKL",
  act_fn: "silu",
  block_out_channels: [24, 48, 64, 64],
  down_block_types: new Array(4).fill("DownEncoderBlock2D"),
  up_block_types: new Array(4).fill("UpDecoderBlock2D"),
  in_channels: 3,
  out_channels: 3,
  latent_channels: 16,
  layers_per_block: 1,
  norm_num_groups: 8,
  sample_size: size,
  scaling_factor: 1,
  shift_factor: 0,
};
const config = vae.parseConfig(configJson);
const latentSize = size / vae.spatialFactor(config);

const encoder = vae.encoder(config, { batch, height: size, width: size });
const decoder = vae.decoder(config, { batch, height: latentSize, width: latentSize });
const { source, parameters: weights } = parameterWeights();
const { mean, logvar, std } = buildModel(encoder, source);
const noise = input("noise", mean!.shape);
const latent = add(mean!, mul(std!, noise));
const { decoded } = buildModel({ ...decoder, inputs: { latent } }, source);

// L1 on pixels and on their differences: edges are what an emoji is made of, and what blur would cost.
const error = sub(decoded!, encoder.inputs["image"]!);
const difference = (x: Value, axis: number) => sub(slice(x, axis, 1, size), slice(x, axis, 0, size - 1));
const pixels = meanAll(abs(error));
const edges = add(meanAll(abs(difference(error, 2))), meanAll(abs(difference(error, 3))));
const kl = meanAll(mul(sub(sub(add(mul(mean!, mean!), exp(logvar!)), 1), logvar!), 0.5));
const loss = add(add(pixels, edges), mul(kl, Number(options["kl-weight"])));

const parameters = new Parameters(new Map([...weightShapes(encoder), ...weightShapes(decoder)]));
initialise(parameters, seededRandom(Number(options.seed)), (name) =>
  name.includes("conv2.weight") ? 0.01 : undefined,
);
const trainer = await Trainer.create(nodeRuntime, loss, weights, parameters, {
  emaDecay: 0.998,
  weightDecay: 0.01,
  // Training goes on beside other work.
  session: { spin: false },
  metrics: { pixels, kl, mse: meanAll(mul(error, error)) },
});

await mkdir(options.out, { recursive: true });
const statePath = join(options.out, "state.safetensors");
await resumeTraining(statePath, trainer);
const data = await loadEmojiData(options.data);
const image = floatTensor([batch, 3, size, size]);
console.log(`${parameters.size} parameters, ${data.count} pictures, from step ${trainer.optimizer.steps} to ${steps}`);

async function save() {
  await saveTraining(statePath, trainer);
  const averaged = new Map(Object.entries(parameters.tensors(trainer.optimizer.ema)));
  await writeSafetensors(join(options.out, "diffusion_pytorch_model.safetensors"), averaged);
  await writeFile(join(options.out, "config.json"), JSON.stringify(configJson, null, 2) + "\n");
}

let started = performance.now();
let since = trainer.optimizer.steps;
const sums = { loss: 0, mse: 0, kl: 0, pixels: 0, count: 0 };
while (trainer.optimizer.steps < steps) {
  const step = trainer.optimizer.steps;
  // Everything random about a step follows from its number, so that a resumed run draws what the whole one would have.
  const random = seededRandom(Number(options.seed) + 7919 * (step + 1));
  for (let i = 0; i < batch; i++) {
    const index = Math.floor(random() * data.count);
    const view = image.data.subarray(i * 3 * size * size, (i + 1) * 3 * size * size);
    const plain = random() < Number(options.plain);
    writeImage(data, index, view, plain ? undefined : drawAugmentation(random, range));
  }
  const draw = new TorchGenerator(step).randn([batch, config.latentChannels, latentSize, latentSize]);
  const report = await trainer.step(
    { image, noise: draw },
    warmupCosine(step, steps, Number(options["learning-rate"])),
  );
  sums.loss += report.loss;
  sums.mse += report.metrics["mse"]!;
  sums.kl += report.metrics["kl"]!;
  sums.pixels += report.metrics["pixels"]!;
  sums.count++;
  if (sums.count === 50 || step + 1 === steps) {
    const seconds = (performance.now() - started) / 1000;
    const rate = ((step + 1 - since) * batch) / seconds;
    // Pictures span [-1, 1]: the peak is 2.
    const line = {
      step: step + 1,
      loss: +(sums.loss / sums.count).toFixed(4),
      psnr: +(10 * Math.log10((4 * sums.count) / sums.mse)).toFixed(2),
      kl: +(sums.kl / sums.count).toFixed(3),
      norm: +report.norm.toFixed(3),
      picturesPerSecond: +rate.toFixed(1),
      minutesLeft: +(((steps - step - 1) * batch) / rate / 60).toFixed(1),
    };
    console.log(JSON.stringify(line));
    await appendFile(join(options.out, "log.jsonl"), JSON.stringify(line) + "\n");
    Object.assign(sums, { loss: 0, mse: 0, kl: 0, pixels: 0, count: 0 });
    started = performance.now();
    since = step + 1;
  }
  if ((step + 1) % 500 === 0) await save();
}
await save();
