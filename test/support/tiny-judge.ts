/** A judge's folder with networks that take a millisecond. Random weights: it judges nothing, but the same every time. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import { Judge, judgeClass, type ReferenceCaption } from "../../src/metrics/judge.ts";
import { weightShapes } from "../../src/models/architecture.ts";
import { emojiAlign } from "../../src/models/emoji-align.ts";
import { nodeRuntime } from "../../src/runtime/node.ts";
import { TorchGenerator } from "../../src/sampling/noise.ts";
import { type FloatTensor, floatTensor, sizeOf, type Tensor } from "../../src/tensor.ts";
import { buildTokenizer } from "../../training/tokenizer.ts";

const { tokenizer, config: tokenizerConfig } = buildTokenizer([["a red cat"], ["a blue dog"], ["the happy house"]], 8);

export const tinyAlignConfig = {
  _class_name: "EmojiAlignModel",
  image_size: 16,
  channels: [4, 8],
  blocks: [1, 1],
  norm_num_groups: 2,
  vocab_size: Object.keys(tokenizer.model.vocab).length,
  max_tokens: 6,
  text_width: 8,
  text_layers: 1,
  text_heads: 2,
  projection_width: 5,
};

/** Three pictures; the first two share a caption. */
export const tinyCaptions: ReferenceCaption[] = [
  { text: "a red cat", picture: 0, belongsTo: [0] },
  { text: "the cat", picture: 1, belongsTo: [0, 1] },
  { text: "a blue dog", picture: 2, belongsTo: [2] },
];

/** Weights for both networks, by name, that keep the size of what they multiply. */
export function tinyAlignWeights(): Map<string, FloatTensor> {
  const generator = new TorchGenerator(3);
  const weights = new Map<string, FloatTensor>();
  for (const architecture of [emojiAlign.image, emojiAlign.text]) {
    for (const [name, shape] of weightShapes(
      architecture.model(architecture.parseConfig(tinyAlignConfig), { batch: 1 }),
    )) {
      const { data } = generator.randn(shape);
      const spread = shape.length > 1 ? 1 / Math.sqrt(sizeOf(shape.slice(1))) : 0.2;
      const centre = shape.length === 1 && name.endsWith("weight") ? 1 : 0;
      weights.set(
        name,
        floatTensor(
          shape,
          data.map((value) => centre + spread * value),
        ),
      );
    }
  }
  return weights;
}

export async function writeTinyJudge(
  path: string,
  { captions = tinyCaptions as unknown, features = {} as Record<string, Tensor> } = {},
): Promise<NodeFolder> {
  for (const folder of ["model", "tokenizer", "reference"]) await mkdir(join(path, folder), { recursive: true });
  const json = (file: string, value: unknown) => writeFile(join(path, file), JSON.stringify(value));
  await json("model_index.json", { _class_name: judgeClass });
  await json("model/config.json", tinyAlignConfig);
  await writeSafetensors(join(path, "model/model.safetensors"), tinyAlignWeights(), { dtype: "F16" });
  await json("tokenizer/tokenizer.json", tokenizer);
  await json("tokenizer/tokenizer_config.json", tokenizerConfig);
  await json("reference/captions.json", { captions });
  const random = () => new TorchGenerator(5).randn([3, tinyAlignConfig.channels.at(-1)!]);
  const tensors = { real: random(), round_trip: random(), ...features };
  await writeSafetensors(join(path, "reference/features.safetensors"), new Map(Object.entries(tensors)));
  return new NodeFolder(path);
}

export const openJudge = (folder: NodeFolder) => Judge.open(folder, nodeRuntime, { threads: 1 });
