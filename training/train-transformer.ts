/**
 * Trains the transformer of the embedded model, on the latents of a trained autoencoder.
 * `npx tsx training/train-transformer.ts --steps 20000`; a killed run goes on from its last checkpoint.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Tokenizer } from "@huggingface/tokenizers";
import { writeSafetensors } from "../src/checkpoints/safetensors-node.ts";
import { mul, sub } from "../src/graph/operators.ts";
import { input } from "../src/graph/value.ts";
import { meanAll } from "../src/graph/vjp.ts";
import { buildModel, weightShapes } from "../src/models/architecture.ts";
import { pixart } from "../src/models/pixart.ts";
import { t5 } from "../src/models/t5.ts";
import { parameterWeights } from "../src/models/weights.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import { type FloatTensor, floatTensor, int64Tensor } from "../src/tensor.ts";
import { resumeTraining, saveTraining } from "../src/training/checkpoint-node.ts";
import { Parameters } from "../src/training/parameters.ts";
import { Trainer } from "../src/training/trainer.ts";
import { loadEmojiData } from "./data.ts";
import { renewText, startValues } from "./initial-values.ts";
import { channelStatistics, encodeAll, normaliseLatents } from "./latents.ts";
import { textEncoderConfig, transformerConfig } from "./model.ts";
import { recoloured } from "./recolour.ts";
import { drawPicture, drawTimestep, noisy, train } from "./sampling.ts";

const { values: options } = parseArgs({
  options: {
    steps: { type: "string", default: "20000" },
    batch: { type: "string", default: "64" },
    "learning-rate": { type: "string", default: "1.5e-3" },
    /** The last steps, in which the learning rate falls to zero in a straight line; before them it is constant. */
    decay: { type: "string", default: "4000" },
    /** Text tokens; what is longer is cut. Nearly all captions have fewer, and attention costs by their number. */
    tokens: { type: "string", default: "10" },
    rung: { type: "string", default: "3" },
    dropout: { type: "string", default: "0.1" },
    /** Share of pictures that are shown in another colour, which their caption names. */
    recolour: { type: "string", default: "0.12" },
    /** Go on from the checkpoint with the text encoder and what attends to it drawn anew. */
    "renew-text": { type: "boolean", default: false },
    /** Stop (with a checkpoint) after this many minutes. */
    minutes: { type: "string", default: "100000" },
    /** Steps between two lines of the log. */
    log: { type: "string", default: "200" },
    seed: { type: "string", default: "0" },
    data: { type: "string", default: "training/data" },
    vae: { type: "string", default: "training/runs/vae" },
    out: { type: "string", default: "training/runs/transformer" },
  },
});
const steps = Number(options.steps);
const batch = Number(options.batch);
const tokens = Number(options.tokens);

// ---------------------------------------------------------------- data

await mkdir(join(options.out, "vae"), { recursive: true });
const data = await loadEmojiData(options.data, { rung: Number(options.rung) });
const everything = await loadEmojiData(options.data);
const statistics = channelStatistics((await encodeAll(options.vae, everything)).mean);
const vaeConfig = await normaliseLatents(options.vae, join(options.out, "vae"), statistics);
await writeFile(join(options.out, "vae", "config.json"), JSON.stringify(vaeConfig, null, 2) + "\n");
const latents = await encodeAll(join(options.out, "vae"), data);
const otherColours = recoloured(data);
const otherLatents = await encodeAll(join(options.out, "vae"), otherColours);
const [, channels, size] = latents.mean.shape as [number, number, number, number];
const each = channels * size * size;
const read = async (name: string) =>
  JSON.parse(await readFile(join(options.data, "tokenizer", name), "utf8")) as object;
const tokenizer = new Tokenizer(await read("tokenizer.json"), await read("tokenizer_config.json"));
const encoded = new Map<string, number[]>();
function tokenize(caption: string): number[] {
  const known = encoded.get(caption);
  if (known) return known;
  const ids = tokenizer.encode(caption).ids.slice(0, tokens);
  encoded.set(caption, ids);
  return ids;
}

// ---------------------------------------------------------------- graph

const textModel = t5.model(t5.parseConfig(textEncoderConfig), { batch, tokens });
const imageModel = pixart.model(pixart.parseConfig(transformerConfig), { batch, tokens, height: size, width: size });
const text = parameterWeights("text_encoder/");
const image = parameterWeights("transformer/");
const { lastHiddenState } = buildModel(textModel, text.source);
const { sample } = buildModel(
  {
    ...imageModel,
    inputs: {
      ...imageModel.inputs,
      encoderHiddenStates: lastHiddenState!,
      encoderAttentionMask: textModel.inputs["attentionMask"]!,
    },
  },
  image.source,
);
const error = sub(sample!, input("target", sample!.shape));
const loss = meanAll(mul(error, error));

const prefixed = (prefix: string, shapes: ReadonlyMap<string, readonly number[]>) =>
  [...shapes].map(([name, shape]) => [prefix + name, shape] as const);
// The text encoder stays as it was drawn: see initial-values.ts.
const textValues = new Parameters(new Map(prefixed("text_encoder/", weightShapes(textModel))));
startValues(textValues, Number(options.seed));
const parameters = new Parameters(new Map(prefixed("transformer/", weightShapes(imageModel))));
startValues(parameters, Number(options.seed) + 1);

const trainer = await Trainer.create(nodeRuntime, loss, image.parameters, parameters, {
  emaDecay: 0.9995,
  weightDecay: 0.01,
  // Training goes on beside other work.
  session: { spin: false },
});
const statePath = join(options.out, "state.safetensors");
await resumeTraining(statePath, trainer);
if (options["renew-text"]) renewText(trainer, Number(options.seed) + 1);
console.log(
  `${parameters.size} parameters, ${data.count} pictures and ${otherColours.count} in other colours, latent std ${statistics.std.map((v) => v.toFixed(2))}, ` +
    `from step ${trainer.optimizer.steps} to ${steps}`,
);

async function save() {
  await saveTraining(statePath, trainer);
  const write = (part: string, tensors: Record<string, FloatTensor>) =>
    writeSafetensors(
      join(options.out, `${part}.safetensors`),
      new Map(Object.entries(tensors).map(([name, tensor]) => [name.slice(part.length + 1), tensor])),
    );
  await write("transformer", parameters.tensors(trainer.optimizer.ema));
  await write("text_encoder", textValues.tensors());
}

// ---------------------------------------------------------------- loop

const clean = floatTensor([batch, channels, size, size]);
const ids = int64Tensor([batch, tokens], new Array(batch * tokens).fill(0));
const attentionMask = floatTensor([batch, tokens]);

const pictures = {
  plain: { data, latents },
  recoloured: { data: otherColours, latents: otherLatents },
};
const shares = { dropout: Number(options.dropout), recolour: Number(options.recolour) };

await train({
  trainer,
  batch,
  steps,
  peak: Number(options["learning-rate"]),
  decay: Number(options.decay),
  seed: Number(options.seed),
  minutes: Number(options.minutes),
  log: Number(options.log),
  out: options.out,
  save,
  draw(step, random) {
    const timesteps: number[] = [];
    for (let i = 0; i < batch; i++) {
      const picture = drawPicture(random, pictures, shares);
      clean.data.set(picture.latent, i * each);
      const caption = tokenize(picture.caption);
      for (let j = 0; j < tokens; j++) {
        ids.data[i * tokens + j] = BigInt(caption[j] ?? 0);
        attentionMask.data[i * tokens + j] = j < caption.length ? 1 : 0;
      }
      timesteps.push(drawTimestep(random));
    }
    const { sample, ...rest } = noisy(clean, timesteps, step);
    return { ...textValues.tensors(), inputIds: ids, attentionMask, hiddenStates: sample, ...rest };
  },
});
