/**
 * A whole CLIP (transformers' CLIPModel): both towers in one file of weights, one configuration with a part for each.
 * Most CLIP checkpoints on the Hub are stored so, `openai/clip-vit-base-patch32` among them.
 */
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ConfigError } from "../errors.ts";
import type { Architecture } from "./architecture.ts";
import { type CLIPTextConfig, parseTextConfig, projectedTextModel, textCounts } from "./clip-text.ts";
import { type CLIPVisionConfig, parseVisionConfig, visionCounts, visionModel } from "./clip-vision.ts";

const className = "CLIPModel";
/** Positions that some versions store, and the temperature of training. */
const ignores = /(\.position_ids|^logit_scale)$/;

/** The towers of a CLIPModel: `text` gives textEmbeds, `image` imageEmbeds, of one width and not normalised. */
export const clip: Readonly<{ text: Architecture<CLIPTextConfig>; image: Architecture<CLIPVisionConfig> }> = {
  text: {
    className,
    parseConfig: (raw) => parseTextConfig(part(raw, "text_config"), className),
    model: (config, geometry) => projectedTextModel(className, config, geometry),
    ignores,
    counts: textCounts,
    text: "inputIds",
  },
  image: {
    className,
    parseConfig: (raw) => parseVisionConfig(part(raw, "vision_config"), className),
    model: (config, geometry) => visionModel(className, config, geometry),
    ignores,
    counts: visionCounts,
    picture: "pixelValues",
  },
};

/**
 * One tower's configuration. Old files have it a second time under another key, which takes precedence. The width of the shared
 * space is the whole model's; the towers' own values may differ from it.
 */
function part(raw: RawConfig, key: "text_config" | "vision_config"): RawConfig {
  const [config, older] = [key, `${key}_dict`].map((name) => {
    const value = raw[name] ?? {};
    if (typeof value === "object" && !Array.isArray(value)) return value;
    throw new ConfigError(`${className}: config "${name}" is ${JSON.stringify(value)}; supported is an object.`);
  });
  return { ...config, ...older, projection_dim: raw["projection_dim"] ?? 512 };
}
