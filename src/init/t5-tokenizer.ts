/**
 * A made-up tokenizer of T5's kind, for T5 with random weights: a unigram model (Kudo 2018, arXiv 1804.10959) whose pieces are
 * characters and pairs of lower-case letters. T5's own vocabulary is not part of halfstep.
 */
import type { Json } from "../checkpoints/single-file/configs.ts";

const SPACE = "\u2581";
const LONGEST = 512;

const alphabet = Array.from({ length: 26 }, (_, i) => String.fromCharCode(0x61 + i));
/** Printable ASCII without the space, which the sign at the start of words stands for. */
const characters = Array.from({ length: 0x7e - 0x20 }, (_, i) => String.fromCharCode(0x21 + i));
const pairs = alphabet.flatMap((first) => alphabet.map((second) => first + second));

/** Pieces with their logarithmic probabilities: a pair is likelier than its two letters, so that it is taken. */
const pieces: readonly (readonly [string, number])[] = [
  ["<pad>", 0],
  ["</s>", 0],
  ["<unk>", 0],
  [SPACE, -2],
  ...[...characters].map((character) => [character, -4] as const),
  ...pairs.map((pair) => [pair, -6] as const),
];

/** How many tokens it has. */
export const T5_TOKENS = pieces.length;

const special = (id: number) => ({
  id,
  content: pieces[id]![0],
  lstrip: false,
  normalized: false,
  rstrip: false,
  single_word: false,
  special: true,
});

/** Its files, in a folder of this name. */
export function t5Tokenizer(folder: string): [string, Json][] {
  const words = { type: "Metaspace", prepend_scheme: "always", replacement: SPACE, split: true };
  const end = { SpecialToken: { id: "</s>", type_id: 0 } };
  const text = (id: string) => ({ Sequence: { id, type_id: 0 } });
  return [
    [
      `${folder}/tokenizer.json`,
      {
        version: "1.0",
        truncation: null,
        padding: null,
        added_tokens: [0, 1, 2].map(special),
        normalizer: null,
        pre_tokenizer: words,
        post_processor: {
          type: "TemplateProcessing",
          single: [text("A"), end],
          pair: [text("A"), end, text("B"), end],
          special_tokens: { "</s>": { id: "</s>", ids: [1], tokens: ["</s>"] } },
        },
        decoder: words,
        model: { type: "Unigram", unk_id: 2, vocab: pieces, byte_fallback: false },
      },
    ],
    [
      `${folder}/tokenizer_config.json`,
      {
        eos_token: "</s>",
        model_max_length: LONGEST,
        pad_token: "<pad>",
        tokenizer_class: "T5TokenizerFast",
        unk_token: "<unk>",
      },
    ],
  ];
}
