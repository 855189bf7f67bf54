/**
 * CLIP's tokenizer from `vocab.json` and `merges.txt`, which is how Stable Diffusion's checkpoints have it: byte-pair
 * encoding of lower-case words whose last piece is marked (Radford et al. 2021, arXiv 2103.00020, section 2.4). Builds the
 * `tokenizer.json` that transformers makes of the two.
 */
import type { Tokenizer } from "@huggingface/tokenizers";
import type { Folder } from "../checkpoints/files.ts";
import { CheckpointError } from "../errors.ts";
import { tokenText } from "./sentencepiece.ts";
import { checkVocabulary, tokenizerFromJson } from "./tokenizer-json.ts";

/** Whether a folder has the two files. */
export async function hasMerges(folder: Folder): Promise<boolean> {
  return (await folder.has("vocab.json")) && (await folder.has("merges.txt"));
}

/** Throws CheckpointError for files that are not such a vocabulary. */
export async function clipTokenizer(folder: Folder, config: Readonly<Record<string, unknown>>): Promise<Tokenizer> {
  const vocab = checkVocabulary(await folder.json("vocab.json"), `${folder.name}/vocab.json`);
  const [start, end] = [
    tokenText(config["bos_token"]) ?? "<|startoftext|>",
    tokenText(config["eos_token"]) ?? "<|endoftext|>",
  ];
  for (const token of [start, end]) {
    if (Object.hasOwn(vocab, token)) continue;
    throw new CheckpointError(
      `${folder.name}/vocab.json: has no token "${token}", so it is not CLIP's vocabulary; save the tokenizer with ` +
        "transformers, which writes a tokenizer.json, if it is another's.",
    );
  }
  // The first line says which version it is.
  const lines = (await folder.text("merges.txt"))
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("#version"));
  const merges = lines.map((line) => {
    const pair = line.trimEnd().split(" ");
    if (pair.length === 2) return pair as [string, string];
    throw new CheckpointError(
      `${folder.name}/merges.txt: ${JSON.stringify(line)} is not two tokens with a space between.`,
    );
  });
  const special = (content: string) => ({ id: vocab[content]!, content, special: true, normalized: false });
  return tokenizerFromJson(
    {
      added_tokens: [start, end].map(special),
      normalizer: {
        type: "Sequence",
        normalizers: [
          { type: "NFC" },
          { type: "Replace", pattern: { Regex: "\\s+" }, content: " " },
          { type: "Lowercase" },
        ],
      },
      pre_tokenizer: {
        type: "Sequence",
        pretokenizers: [
          {
            type: "Split",
            pattern: { Regex: "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+" },
            behavior: "Removed",
            invert: true,
          },
          { type: "ByteLevel", add_prefix_space: false },
        ],
      },
      post_processor: {
        type: "RobertaProcessing",
        sep: [end, vocab[end]!],
        cls: [start, vocab[start]!],
        trim_offsets: false,
        add_prefix_space: false,
      },
      decoder: { type: "ByteLevel" },
      model: {
        type: "BPE",
        vocab,
        merges,
        unk_token: end,
        continuing_subword_prefix: "",
        end_of_word_suffix: "</w>",
        fuse_unk: false,
      },
    },
    { ...config, eos_token: end },
    folder.name,
  );
}
