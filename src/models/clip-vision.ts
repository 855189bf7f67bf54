/**
 * CLIP's image tower, a vision transformer (Radford et al. 2021, arXiv 2103.00020, section 2.4; Dosovitskiy et al. 2021,
 * arXiv 2010.11929) with a projection into the space of the captions. Stable Video Diffusion encodes its image with it.
 * Names and configuration keys are those of transformers' CLIPVisionModelWithProjection.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ConfigError } from "../errors.ts";
import { add, conv2d, pad, reshape, slice, transpose } from "../graph/operators.ts";
import { input } from "../graph/value.ts";
import type { Architecture, Geometry, Stage, StagedModel } from "./architecture.ts";
import {
  type CLIPEncoderConfig,
  describeEncoder,
  encoderCounts,
  encoderStages,
  harmlessKeys,
  parseEncoder,
} from "./clip-encoder.ts";
import { ConfigReader, MOST_WIDTH } from "./config.ts";
import type { Count } from "./counts.ts";
import { layerNorm, linear } from "./layers.ts";

/** The values of CLIP's vision configuration that its graph depends on. */
export interface CLIPVisionConfig extends CLIPEncoderConfig {
  /** Pixels on a side. */
  imageSize: number;
  patchSize: number;
  inChannels: number;
  /** Width of the space that both towers share. */
  projectionWidth: number;
}

/** CLIP's image encoder with its projection. */
export const clipVisionWithProjection: Architecture<CLIPVisionConfig> = {
  className: "CLIPVisionModelWithProjection",
  parseConfig: (raw) => parseVisionConfig(raw, clipVisionWithProjection.className),
  model: (config, geometry) => visionModel(clipVisionWithProjection.className, config, geometry),
  // Stored by some versions: 0, 1, 2, ...; and what a whole CLIPModel has beside this tower.
  ignores: /(\.position_ids|^logit_scale)$|^(text_model|text_projection)\./,
  counts: visionCounts,
  picture: "pixelValues",
};

export function parseVisionConfig(raw: RawConfig, className: string): CLIPVisionConfig {
  const read = new ConfigReader(raw, className);
  const config = {
    ...parseEncoder(read, className, { width: 768, inner: 3072, heads: 12 }),
    imageSize: read.side("image_size", 224),
    patchSize: read.side("patch_size", 32),
    inChannels: read.integer("num_channels", 3, 1, MOST_WIDTH),
    projectionWidth: read.integer("projection_dim", 512, 1, MOST_WIDTH),
  };
  read.finish(harmlessKeys);
  if (config.patchSize > config.imageSize) {
    throw new ConfigError(
      `${className}: config "patch_size" ${config.patchSize} is larger than image_size ${config.imageSize}.`,
    );
  }
  return config;
}

export function visionCounts(config: CLIPVisionConfig): Count[] {
  const tables = "vision_model.embeddings";
  const positions = 1 + Math.floor(config.imageSize / config.patchSize) ** 2;
  return [
    ...encoderCounts("vision_model", config),
    { key: "hidden_size", tensor: `${tables}.patch_embedding.weight`, axis: 0, size: config.width },
    { key: "patch_size", tensor: `${tables}.patch_embedding.weight`, axis: 3, size: config.patchSize },
    { key: "image_size", tensor: `${tables}.position_embedding.weight`, axis: 0, size: positions },
  ];
}

/**
 * Input: `pixelValues` [batch, 3, imageSize, imageSize], normalised by the mean and standard deviation of CLIP's images.
 * Outputs: `imageEmbeds` [batch, projection width], not normalised, and `lastHiddenState` [batch, 1 + patches, width].
 */
export function visionModel(className: string, config: CLIPVisionConfig, { batch }: Geometry): StagedModel {
  const { imageSize, patchSize, inChannels, projectionWidth, width, epsilon } = config;
  return {
    className,
    settings:
      `${describeEncoder(config)}, image_size ${imageSize}, patch_size ${patchSize}, num_channels ${inChannels} and ` +
      `projection_dim ${projectionWidth}`,
    inputs: { pixelValues: input("pixelValues", [batch, inChannels, imageSize, imageSize]) },
    outputs: ["imageEmbeds", "lastHiddenState"],
    stages: [
      embeddingStage(config),
      ...encoderStages("vision_model", config),
      {
        name: "visual_projection",
        role: "leave",
        axis: "whole",
        reads: ["hiddenStates"],
        writes: ["imageEmbeds", "lastHiddenState"],
        build: ({ hiddenStates }, w) => {
          // Only the class token is normalised and projected; the others are the output of the last layer.
          const token = reshape(slice(hiddenStates!, 1, 0, 1), [batch, width]);
          const pooled = layerNorm(token, epsilon, w.at("vision_model").at("post_layernorm"));
          const imageEmbeds = linear(pooled, w.at("visual_projection"), projectionWidth, { bias: false });
          return { imageEmbeds, lastHiddenState: hiddenStates! };
        },
      },
    ],
  };
}

/** A learned class token, then the patches row by row, each with its place's learned vector; normalised. */
function embeddingStage({ imageSize, patchSize, inChannels, width, epsilon }: CLIPVisionConfig): Stage {
  const side = Math.floor(imageSize / patchSize);
  const patches = side * side;
  return {
    name: "vision_model.embeddings",
    role: "enter",
    axis: "whole",
    reads: ["pixelValues"],
    writes: ["hiddenStates"],
    build: ({ pixelValues }, w) => {
      const weights = w.at("vision_model").at("embeddings");
      const kernel = weights.at("patch_embedding").tensor("weight", [width, inChannels, patchSize, patchSize]);
      const cut = conv2d(pixelValues!, kernel, null, { stride: patchSize });
      const tokens = transpose(reshape(cut, [cut.shape[0]!, width, patches]), [0, 2, 1]);
      const positions = weights.at("position_embedding").tensor("weight", [1 + patches, width]);
      // The class token is the same for the whole batch, so it goes where positions are: onto a zero before the patches.
      const first = pad(reshape(weights.tensor("class_embedding", [width]), [1, width]), [0, 0], [patches, 0]);
      const states = add(pad(tokens, [0, 1, 0], [0, 0, 0]), add(positions, first));
      // Spelled so in every checkpoint.
      return { hiddenStates: layerNorm(states, epsilon, w.at("vision_model").at("pre_layrnorm")) };
    },
  };
}
