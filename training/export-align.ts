/**
 * Writes emoji-align as it ships: weights in half precision, the captions that `halfstep eval` asks for, and the
 * features of the real pictures and of their autoencoder round trip. Prints what it gets right, on what was not shown
 * in training too. `npx tsx training/export-align.ts [--from training/runs/align] [--vae checkpoints/fluent-emoji/vae]`
 */
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fileSource, NodeFolder } from "../src/checkpoints/node.ts";
import { SafetensorsFile } from "../src/checkpoints/safetensors.ts";
import { writeSafetensors } from "../src/checkpoints/safetensors-node.ts";
import { Component } from "../src/components/components.ts";
import { type Picture, toPictures } from "../src/media/picture.ts";
import { retrievalRanks, topAccuracy } from "../src/metrics/alignment.ts";
import { captionsFor, evaluateCeilings } from "../src/metrics/evaluate.ts";
import { featureStatistics, frechetDistance } from "../src/metrics/frechet.ts";
import { Judge, judgeClass, type ReferenceCaption } from "../src/metrics/judge.ts";
import { psnr, ssim } from "../src/metrics/similarity.ts";
import { autoencoderKL, spatialFactor } from "../src/models/autoencoder-kl.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import { type FloatTensor, floatTensor, type Tensor } from "../src/tensor.ts";
import { drawView, heldOutCaptions, writeView } from "./align-data.ts";
import { naturalForm, withArticle } from "./captions.ts";
import { type EmojiData, imageSize, loadEmojiData, writeImage } from "./data.ts";
import { seededRandom } from "./random.ts";

const { values: options } = parseArgs({
  options: {
    from: { type: "string", default: "training/runs/align" },
    data: { type: "string", default: "training/data" },
    vae: { type: "string", default: "checkpoints/fluent-emoji/vae" },
    to: { type: "string", default: "checkpoints/emoji-align" },
    threads: { type: "string", default: "1" },
  },
});
const session = { threads: Number(options.threads), spin: false };
const each = 3 * imageSize * imageSize;

// ---------------------------------------------------------------- the model

for (const folder of ["model", "tokenizer", "reference"]) await mkdir(join(options.to, folder), { recursive: true });
await copyFile(join(options.from, "config.json"), join(options.to, "model", "config.json"));
const trained = await SafetensorsFile.open(await fileSource(join(options.from, "model.safetensors")));
const tensors = new Map<string, Tensor>();
for (const name of trained.entries.keys()) tensors.set(name, await trained.read(name));
await writeSafetensors(join(options.to, "model", "model.safetensors"), tensors, { dtype: "F16" });
for (const file of ["tokenizer.json", "tokenizer_config.json"]) {
  await copyFile(join(options.data, "tokenizer", file), join(options.to, "tokenizer", file));
}
const index = {
  _class_name: judgeClass,
  model: ["halfstep", "EmojiAlignModel"],
  tokenizer: ["transformers", "PreTrainedTokenizerFast"],
};
await writeFile(join(options.to, "model_index.json"), JSON.stringify(index, null, 2) + "\n");

// ---------------------------------------------------------------- the reference

const data = await loadEmojiData(options.data);
const pictures: Picture[] = Array.from({ length: data.count }, (_, i) => ({
  width: imageSize,
  height: imageSize,
  data: data.images.subarray(i * each, (i + 1) * each),
}));
const decoded = await roundTrip(data, options.vae);
const judge = await Judge.open(new NodeFolder(options.to), nodeRuntime, session);
const real = await judge.judgePictures(pictures);
const round = await judge.judgePictures(decoded);
await writeSafetensors(
  join(options.to, "reference", "features.safetensors"),
  new Map([
    ["real", real.features],
    ["round_trip", round.features],
  ]),
  { dtype: "F16" },
);
const captions = referenceCaptions(data);
const lines = captions.map((caption) => JSON.stringify(caption)).join(",\n");
await writeFile(join(options.to, "reference", "captions.json"), `{"captions":[\n${lines}\n]}\n`);

// ---------------------------------------------------------------- what it gets right

const texts = await judge.embedCaptions(captions.map(({ text }) => text));
const accuracy = (ranks: number[]) => ({
  count: ranks.length,
  top1: +topAccuracy(ranks, 1).toFixed(4),
  top5: +topAccuracy(ranks, 5).toFixed(4),
});
/** Picture i is one of emoji i: which of the list's captions is nearest? */
const byPicture = (embedded: FloatTensor) =>
  accuracy(retrievalRanks(embedded, texts, (picture, caption) => captions[caption]!.belongsTo.includes(picture)));

const heldOut = [...new Set(data.entries.flatMap(heldOutCaptions))].map((text) => ({ text, belongsTo: owners(text) }));
const heldOutTexts = await judge.embedCaptions(heldOut.map(({ text }) => text));
const mean = (values: number[]) => +(values.reduce((a, b) => a + b, 0) / values.length).toFixed(4);
const figures = {
  pictures: byPicture(real.embeds),
  newViews: byPicture((await judge.judgePictures(newViews(data))).embeds),
  roundTrip: byPicture(round.embeds),
  // Which picture is nearest to a caption, among all pictures.
  captions: accuracy(
    retrievalRanks(texts, real.embeds, (caption, picture) => captions[caption]!.belongsTo.includes(picture)),
  ),
  heldOutCaptions: accuracy(
    retrievalRanks(heldOutTexts, real.embeds, (caption, picture) => heldOut[caption]!.belongsTo.includes(picture)),
  ),
  distances: await distances(data),
  // The last two rows of `halfstep eval`.
  ceilings: await evaluateCeilings(judge, 512),
  autoencoder: {
    psnr: mean(pictures.map((picture, i) => psnr(picture, decoded[i]!))),
    ssim: mean(pictures.map((picture, i) => ssim(picture, decoded[i]!))),
  },
};
console.log(JSON.stringify(figures, null, 2));
await judge.release();

function owners(text: string): number[] {
  return data.entries.flatMap((entry, i) => (entry.captions.some((caption) => caption.text === text) ? [i] : []));
}

/** One caption an emoji, as a person says it; emoji with the same one share it. */
function referenceCaptions({ entries }: EmojiData): ReferenceCaption[] {
  const seen = new Set<string>();
  return entries.flatMap(({ label, captions: own }, picture) => {
    const spoken = withArticle(naturalForm(label));
    const text = own.some((caption) => caption.text === spoken) ? spoken : own[0]!.text;
    if (seen.has(text)) return [];
    seen.add(text);
    return [{ text, picture, belongsTo: owners(text) }];
  });
}

/** Views with seeds that training, which counts up from 7919, never draws. */
function newViews(emoji: EmojiData): Picture[] {
  const view = floatTensor([1, 3, imageSize, imageSize]);
  return emoji.entries.flatMap(({ group }, i) => {
    const random = seededRandom(0x80000000 + i);
    writeView(emoji, i, view.data, drawView(random, group), random);
    return toPictures(view);
  });
}

/** Fréchet distance to all real pictures of the 512 that `halfstep eval` has, with one thing done to all of them. */
async function distances(emoji: EmojiData): Promise<Record<string, number>> {
  const every = featureStatistics(real.features);
  const asked = captionsFor({ captions }, 512).map((caption) => captions[caption]!.picture);
  const still = { flip: false, turns: 0, shiftX: 0, shiftY: 0, hue: 0, saturation: 1, ink: 1 };
  const changes: Record<string, { blur?: number; noise?: number; hue?: number }> = {
    unchanged: {},
    "blur 0.8": { blur: 0.8 },
    "blur 1.5": { blur: 1.5 },
    "blur 2.5": { blur: 2.5 },
    "noise 0.15": { noise: 0.15 },
    "noise 0.4": { noise: 0.4 },
    "hue 0.5": { hue: 0.5 },
    "hue 3": { hue: 3 },
  };
  const view = floatTensor([1, 3, imageSize, imageSize]);
  const result: Record<string, number> = {};
  for (const [name, { blur = 0, noise = 0, hue = 0 }] of Object.entries(changes)) {
    const random = seededRandom(1);
    const changed = asked.flatMap((picture) => {
      const whole = { left: 0, top: 0, side: imageSize, colours: { ...still, hue }, blur, noise };
      writeView(emoji, picture, view.data, whole, random);
      return toPictures(view);
    });
    const { features } = await judge.judgePictures(changed);
    result[name] = +frechetDistance(featureStatistics(features), every).toFixed(4);
  }
  return result;
}

/** Every picture coded to the mean of its latent and back. */
async function roundTrip(emoji: EmojiData, folder: string): Promise<Picture[]> {
  const open = (network: "encoder" | "decoder") =>
    Component.open(new NodeFolder(folder), () => autoencoderKL[network], nodeRuntime, session);
  const [encoder, decoder] = [await open("encoder"), await open("decoder")];
  const encode = await encoder.session({ batch: "batch", height: imageSize, width: imageSize });
  const size = imageSize / spatialFactor(decoder.config);
  const decode = await decoder.session({ batch: "batch", height: size, width: size });
  const result: Picture[] = [];
  for (let start = 0; start < emoji.count; start += 32) {
    const count = Math.min(32, emoji.count - start);
    const image = floatTensor([count, 3, imageSize, imageSize]);
    for (let i = 0; i < count; i++) writeImage(emoji, start + i, image.data.subarray(i * each, (i + 1) * each));
    const { mean: latent } = await encode.run({ image });
    const { decoded: back } = await decode.run({ latent: latent! });
    result.push(...toPictures(back as FloatTensor));
  }
  await Promise.all([encoder.release(), decoder.release()]);
  return result;
}
