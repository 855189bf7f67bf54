/**
 * Trains emoji-align, the judge of `halfstep eval`: pictures and captions as directions that are near each other where
 * they belong together. `npx tsx training/train-align.ts --steps 2500`; a killed run goes on from its last checkpoint.
 */
import { appendFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Tokenizer } from "@huggingface/tokenizers";
import { writeSafetensors } from "../src/checkpoints/safetensors-node.ts";
import { buildModel, weightShapes } from "../src/models/architecture.ts";
import { emojiAlign } from "../src/models/emoji-align.ts";
import { parameterWeights } from "../src/models/weights.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import { floatTensor, int64Tensor } from "../src/tensor.ts";
import { warmupCosine } from "../src/training/adamw.ts";
import { resumeTraining, saveTraining } from "../src/training/checkpoint-node.ts";
import { contrastiveLoss, notNegatives } from "../src/training/contrastive.ts";
import { initialise, Parameters } from "../src/training/parameters.ts";
import { Trainer } from "../src/training/trainer.ts";
import { drawIndices, drawView, trainingEntries, writeView } from "./align-data.ts";
import { drawCaption, imageSize, loadEmojiData } from "./data.ts";
import { seededRandom } from "./random.ts";

const { values: options } = parseArgs({
  options: {
    steps: { type: "string", default: "2500" },
    batch: { type: "string", default: "64" },
    "learning-rate": { type: "string", default: "1.5e-3" },
    /** Stop (with a checkpoint) after this many minutes. */
    minutes: { type: "string", default: "100000" },
    /** Steps between two lines of the log. */
    log: { type: "string", default: "50" },
    threads: { type: "string", default: "1" },
    seed: { type: "string", default: "0" },
    data: { type: "string", default: "training/data" },
    out: { type: "string", default: "training/runs/align" },
  },
});
const steps = Number(options.steps);
const batch = Number(options.batch);

export const configJson = {
  _class_name: "EmojiAlignModel",
  image_size: imageSize,
  channels: [64, 128, 192],
  blocks: [1, 2, 1],
  norm_num_groups: 8,
  vocab_size: 2032,
  max_tokens: 16,
  text_width: 128,
  text_layers: 2,
  text_heads: 4,
  projection_width: 128,
};
const config = emojiAlign.image.parseConfig(configJson);
const tokens = config.maxTokens;

const imageModel = emojiAlign.image.model(config, { batch });
const textModel = emojiAlign.text.model(config, { batch });
const { source, parameters: weights } = parameterWeights();
const { imageEmbeds } = buildModel(imageModel, source);
const { textEmbeds } = buildModel(textModel, source);
const { loss, accuracy, scale, exempt } = contrastiveLoss(textEmbeds!, imageEmbeds!, source("log_scale", []));

const parameters = new Parameters(
  new Map([...weightShapes(imageModel), ...weightShapes(textModel), ["log_scale", []] as const]),
);
initialise(parameters, seededRandom(Number(options.seed)), (name) => {
  if (name === "text.tokens.weight") return 1;
  if (name === "text.positions.weight") return 0.1;
  // Blocks begin as small corrections.
  if (/(conv2|to_out\.0|ff\.net\.2)\.weight$/.test(name)) return 0.01;
  return undefined;
});
parameters.tensors()["log_scale"]!.data[0] = Math.log(10);

const trainer = await Trainer.create(nodeRuntime, loss, weights, parameters, {
  emaDecay: 0.998,
  weightDecay: 0.03,
  // Training goes on beside other work.
  session: { spin: false, threads: Number(options.threads) },
  metrics: { accuracy, scale },
});

await mkdir(options.out, { recursive: true });
const statePath = join(options.out, "state.safetensors");
await resumeTraining(statePath, trainer);
const data = await loadEmojiData(options.data);
const entries = trainingEntries(data.entries);
const captionsOf = entries.map(({ captions }) => new Set(captions.map(({ text }) => text)));
const read = async (name: string) =>
  JSON.parse(await readFile(join(options.data, "tokenizer", name), "utf8")) as object;
const tokenizer = new Tokenizer(await read("tokenizer.json"), await read("tokenizer_config.json"));
console.log(`${parameters.size} parameters, ${data.count} pictures, from step ${trainer.optimizer.steps} to ${steps}`);

const pixelValues = floatTensor([batch, 3, imageSize, imageSize]);
const inputIds = int64Tensor([batch, tokens], new Array<number>(batch * tokens).fill(0));
const attentionMask = floatTensor([batch, tokens]);
const exemptPairs = floatTensor(exempt.shape as number[]);

function fill(random: () => number): void {
  const indices = drawIndices(data.count, batch, random);
  const captions = indices.map((index) => drawCaption(entries[index]!, random));
  for (const [i, index] of indices.entries()) {
    const each = 3 * imageSize * imageSize;
    const view = drawView(random, entries[index]!.group);
    writeView(data, index, pixelValues.data.subarray(i * each, (i + 1) * each), view, random);
    const ids = tokenizer.encode(captions[i]!).ids.slice(0, tokens);
    for (let j = 0; j < tokens; j++) {
      inputIds.data[i * tokens + j] = BigInt(ids[j] ?? 0);
      attentionMask.data[i * tokens + j] = j < ids.length ? 1 : 0;
    }
  }
  notNegatives(exemptPairs, (text, image) => captionsOf[indices[image]!]!.has(captions[text]!));
}

async function save() {
  await saveTraining(statePath, trainer);
  const { log_scale: _, ...averaged } = parameters.tensors(trainer.optimizer.ema);
  await writeSafetensors(join(options.out, "model.safetensors"), new Map(Object.entries(averaged)));
  await writeFile(join(options.out, "config.json"), JSON.stringify(configJson, null, 2) + "\n");
}

const began = performance.now();
let started = performance.now();
let since = trainer.optimizer.steps;
const sums = { loss: 0, accuracy: 0, count: 0 };
while (trainer.optimizer.steps < steps && performance.now() - began < Number(options.minutes) * 60_000) {
  const step = trainer.optimizer.steps;
  // Everything random about a step follows from its number, so that a resumed run draws what the whole one would have.
  fill(seededRandom(Number(options.seed) + 7919 * (step + 1)));
  const report = await trainer.step(
    { pixelValues, inputIds, attentionMask, exempt: exemptPairs },
    warmupCosine(step, steps, Number(options["learning-rate"])),
  );
  sums.loss += report.loss;
  sums.accuracy += report.metrics["accuracy"]!;
  sums.count++;
  if (sums.count === Number(options.log) || step + 1 === steps) {
    const seconds = (performance.now() - started) / 1000;
    const rate = ((step + 1 - since) * batch) / seconds;
    const line = {
      step: step + 1,
      loss: +(sums.loss / sums.count).toFixed(4),
      // How often the right caption is the nearest in its batch.
      accuracy: +(sums.accuracy / sums.count).toFixed(4),
      scale: +report.metrics["scale"]!.toFixed(2),
      norm: +report.norm.toFixed(3),
      picturesPerSecond: +rate.toFixed(1),
      minutesLeft: +(((steps - step - 1) * batch) / rate / 60).toFixed(1),
    };
    console.log(JSON.stringify(line));
    await appendFile(join(options.out, "log.jsonl"), JSON.stringify(line) + "\n");
    Object.assign(sums, { loss: 0, accuracy: 0, count: 0 });
    started = performance.now();
    since = step + 1;
  }
  if ((step + 1) % 250 === 0) await save();
}
await save();
