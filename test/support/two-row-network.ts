/**
 * A denoiser for tests alone, in the shape of Stable Diffusion 3's MMDiT (Esser et al. 2024, arXiv 2403.03206) and Flux: the
 * image's tokens and the text's both run through the blocks, first in pairs that keep weights for each and share one
 * attention, then in lines that take all tokens as one sequence. No name in it is one of another network's.
 */
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { add, attention, concat, reshape, silu, slice, transpose } from "../../src/graph/operators.ts";
import { input, type Value } from "../../src/graph/value.ts";
import type { Architecture, Features, Geometry, Layout, Stage, StagedModel } from "../../src/models/architecture.ts";
import { ConfigReader } from "../../src/models/config.ts";
import { pick } from "../../src/models/features.ts";
import { layerNorm, linear, sinusoidalEmbedding } from "../../src/models/layers.ts";
import type { Weights } from "../../src/models/weights.ts";

export interface TwoRowConfig {
  channels: number;
  wordWidth: number;
  /** Of a token. */
  width: number;
  heads: number;
  pairs: number;
  lines: number;
}

export const twoRow: Architecture<TwoRowConfig> = {
  className: "TwoRowNetwork",
  parseConfig,
  model,
  counts: ({ pairs, lines }) => [
    { key: "pairs", module: "pair", count: pairs },
    { key: "lines", module: "line", count: lines },
  ],
  picture: "noisyImage",
  text: "words",
};

function parseConfig(raw: RawConfig): TwoRowConfig {
  const read = new ConfigReader(raw, twoRow.className);
  const integer = (key: string) => read.integer(key, undefined, 1, 64);
  const config = {
    channels: integer("channels"),
    wordWidth: integer("word_width"),
    width: integer("width"),
    heads: integer("heads"),
    pairs: integer("pairs"),
    lines: integer("lines"),
  };
  read.finish([]);
  return config;
}

/**
 * Inputs: `noisyImage` [batch, channels, height, width], `words` [batch, tokens, wordWidth], `timestep` [batch]. Output:
 * `sample` [batch, 2 * channels, height, width], the second half a variance.
 */
function model(config: TwoRowConfig, { batch, height, width: columns, tokens }: Geometry): StagedModel {
  const { channels, wordWidth, width, pairs, lines } = config;
  const position = height! * columns!;
  const layouts: Record<string, Layout> = {
    noisyImage: { batch, channel: channels, row: height!, column: columns! },
    words: { batch, token: tokens!, channel: wordWidth },
    timestep: { batch },
    moment: { batch, channel: width },
    imageTokens: { batch, position, channel: width },
    wordTokens: { batch, token: tokens!, channel: width },
    lastTokens: { batch, position, channel: 2 * channels },
    sample: { batch, channel: 2 * channels, row: height!, column: columns! },
  };
  const inputs = ["noisyImage", "words", "timestep"];
  const stage = (each: Omit<Stage, "layouts">): Stage => ({
    ...each,
    layouts: Object.fromEntries([...each.reads, ...each.writes].map((name) => [name, layouts[name]!])),
  });
  const shared = { axis: "whole" as const, reads: ["wordTokens", "moment", "imageTokens"] };
  const size = { position, tokens: tokens! };
  return {
    className: twoRow.className,
    settings: `width ${width}, ${pairs} pairs and ${lines} lines`,
    inputs: Object.fromEntries(inputs.map((name) => [name, input(name, Object.values(layouts[name]!))])),
    outputs: ["sample"],
    latent: "noisyImage",
    streams: ["imageTokens", "wordTokens"],
    stages: [
      ...entry(config, position).map(stage),
      ...Array.from({ length: pairs }, (_, i) =>
        stage({
          ...shared,
          name: `pair.${i}`,
          role: "block",
          writes: ["imageTokens", "wordTokens"],
          build: (features, w) => pair(features, w.at("pair").at(i), config, size),
        }),
      ),
      ...Array.from({ length: lines }, (_, i) =>
        stage({
          ...shared,
          name: `line.${i}`,
          role: "block",
          // Nothing reads the last one's words.
          writes: i < lines - 1 ? ["imageTokens", "wordTokens"] : ["imageTokens"],
          build: (features, w) => {
            const both = line(features, w.at("line").at(i), config, size);
            return i < lines - 1 ? both : pick(both, ["imageTokens"]);
          },
        }),
      ),
      ...exit(config, height!, columns!).map(stage),
    ],
  };
}

function entry({ width }: TwoRowConfig, position: number): Omit<Stage, "layouts">[] {
  const enter = { role: "enter", axis: "whole" } as const;
  return [
    {
      ...enter,
      name: "see",
      reads: ["noisyImage"],
      writes: ["imageTokens"],
      build: ({ noisyImage }, w) => {
        const [batch, channels] = noisyImage!.shape;
        const tokens = transpose(reshape(noisyImage!, [batch!, channels!, position]), [0, 2, 1]);
        const places = w.at("see").tensor("places", [position, width]);
        return { imageTokens: add(linear(tokens, w.at("see"), width), places) };
      },
    },
    {
      ...enter,
      name: "hear",
      reads: ["words"],
      writes: ["wordTokens"],
      build: ({ words }, w) => ({ wordTokens: linear(words!, w.at("hear"), width) }),
    },
    {
      ...enter,
      name: "when",
      reads: ["timestep"],
      writes: ["moment"],
      build: ({ timestep }, w) => ({
        moment: silu(linear(sinusoidalEmbedding(timestep!, width), w.at("when"), width)),
      }),
    },
  ];
}

function exit({ channels }: TwoRowConfig, rows: number, columns: number): Omit<Stage, "layouts">[] {
  return [
    {
      name: "settle",
      role: "leave",
      axis: "position",
      reads: ["imageTokens", "moment"],
      writes: ["lastTokens"],
      build: ({ imageTokens, moment }, w) => {
        const shift = reshape(moment!, [moment!.shape[0]!, 1, -1]);
        return { lastTokens: linear(add(layerNorm(imageTokens!, EPSILON), shift), w.at("settle"), 2 * channels) };
      },
    },
    {
      name: "show",
      role: "leave",
      axis: "whole",
      reads: ["lastTokens"],
      writes: ["sample"],
      build: ({ lastTokens }) => ({
        sample: reshape(transpose(lastTokens!, [0, 2, 1]), [lastTokens!.shape[0]!, 2 * channels, rows, columns]),
      }),
    },
  ];
}

export const EPSILON = 1e-5;

interface Size {
  position: number;
  tokens: number;
}

/** Normalised, with what the time makes of it added. */
function normed(x: Value, moment: Value, w: Weights, width: number): Value {
  return add(layerNorm(x, EPSILON), reshape(linear(moment, w, width), [moment.shape[0]!, 1, width]));
}

/** Words before the image, as everywhere in this file. */
function apart(x: Value, { position, tokens }: Size): { wordTokens: Value; imageTokens: Value } {
  return { wordTokens: slice(x, 1, 0, tokens), imageTokens: slice(x, 1, tokens, tokens + position) };
}

function pair(features: Features, w: Weights, { width, heads }: TwoRowConfig, size: Size): Features {
  const names = ["wordTokens", "imageTokens"] as const;
  const given = names.map((name) => normed(features[name]!, features["moment"]!, w.at(name).at("shift"), width));
  const [q, k, v] = ["q", "k", "v"].map((kind) =>
    concat(
      names.map((name, i) => linear(given[i]!, w.at(name).at(kind), width)),
      1,
    ),
  );
  const mixed = apart(attention(q!, k!, v!, heads), size);
  return Object.fromEntries(
    names.map((name) => {
      const own = w.at(name);
      const x = add(features[name]!, linear(mixed[name], own.at("out"), width));
      const hidden = silu(linear(layerNorm(x, EPSILON), own.at("up"), 2 * width));
      return [name, add(x, linear(hidden, own.at("down"), width))];
    }),
  );
}

function line(features: Features, w: Weights, { width, heads }: TwoRowConfig, size: Size): Features {
  const x = concat([features["wordTokens"]!, features["imageTokens"]!], 1);
  const given = normed(x, features["moment"]!, w.at("shift"), width);
  const [q, k, v] = ["q", "k", "v"].map((kind) => linear(given, w.at(kind), width));
  const hidden = silu(linear(given, w.at("up"), 2 * width));
  return apart(add(x, linear(concat([attention(q!, k!, v!, heads), hidden], -1), w.at("out"), width)), size);
}
