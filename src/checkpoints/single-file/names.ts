/**
 * Maps tensor names of the original latent diffusion code (CompVis/latent-diffusion, Stability-AI/generative-models) and of
 * OpenCLIP to those of diffusers and transformers, as pairs of [original, diffusers'].
 */

export type Renames = readonly (readonly [original: string, diffusers: string])[];

/** Prefixes to replace; the first match counts. The rest of the name stays, except for replacements in `within`. */
export interface NameMap {
  readonly prefixes: Renames;
  /** Replacements anywhere in the rest of a name, for original names with these prefixes. */
  readonly within: readonly { readonly below: RegExp; readonly parts: Renames }[];
}

/** Names within a residual block of the UNet. */
const unetResnet: Renames = [
  ["in_layers.0.", "norm1."],
  ["in_layers.2.", "conv1."],
  ["emb_layers.1.", "time_emb_proj."],
  ["out_layers.0.", "norm2."],
  ["out_layers.3.", "conv2."],
  ["skip_connection.", "conv_shortcut."],
];

const unetOutside: Renames = [
  ["time_embed.0.", "time_embedding.linear_1."],
  ["time_embed.2.", "time_embedding.linear_2."],
  ["label_emb.0.0.", "add_embedding.linear_1."],
  ["label_emb.0.2.", "add_embedding.linear_2."],
  ["input_blocks.0.0.", "conv_in."],
  ["middle_block.0.", "mid_block.resnets.0."],
  ["middle_block.1.", "mid_block.attentions.0."],
  ["middle_block.2.", "mid_block.resnets.1."],
  ["out.0.", "conv_norm_out."],
  ["out.2.", "conv_out."],
];

/** In the original all blocks are numbered consecutively, and each downsampling has its own number. */
export function unetNames(layersPerLevel: readonly number[], upAttention: (level: number) => boolean): NameMap {
  const last = layersPerLevel.length - 1;
  const blocks: [string, string][] = [];
  let input = 1;
  for (const [level, layers] of layersPerLevel.entries()) {
    for (let layer = 0; layer < layers; layer++, input++) {
      blocks.push([`input_blocks.${input}.0.`, `down_blocks.${level}.resnets.${layer}.`]);
      blocks.push([`input_blocks.${input}.1.`, `down_blocks.${level}.attentions.${layer}.`]);
    }
    if (level < last) blocks.push([`input_blocks.${input++}.0.op.`, `down_blocks.${level}.downsamplers.0.conv.`]);
  }
  let output = 0;
  for (const [level, layers] of [...layersPerLevel].reverse().entries()) {
    const attention = upAttention(last - level);
    for (let layer = 0; layer <= layers; layer++, output++) {
      const upsampler = `output_blocks.${output}.${attention ? 2 : 1}.conv.`;
      if (layer === layers && level < last) blocks.push([upsampler, `up_blocks.${level}.upsamplers.0.conv.`]);
      blocks.push([`output_blocks.${output}.0.`, `up_blocks.${level}.resnets.${layer}.`]);
      if (attention) blocks.push([`output_blocks.${output}.1.`, `up_blocks.${level}.attentions.${layer}.`]);
    }
  }
  return {
    prefixes: [...unetOutside, ...blocks],
    within: [{ below: /^(input_blocks\.\d+|output_blocks\.\d+|middle_block)\./, parts: unetResnet }],
  };
}

const vaeParts: Renames = [
  ["nin_shortcut.", "conv_shortcut."],
  ["downsample.conv.", "downsamplers.0.conv."],
  ["upsample.conv.", "upsamplers.0.conv."],
];

const vaeAttention: Renames = [
  ["norm.", "group_norm."],
  ["q.", "to_q."],
  ["k.", "to_k."],
  ["v.", "to_v."],
  ["proj_out.", "to_out.0."],
];

/** The decoder's levels are counted from the image in the original, and from the latent in diffusers. */
export function vaeNames(levels: number): NameMap {
  const sides = ["encoder", "decoder"].flatMap((side): Renames => {
    const [short, long] = side === "encoder" ? ["down", "down_blocks"] : ["up", "up_blocks"];
    return [
      [`${side}.mid.block_1.`, `${side}.mid_block.resnets.0.`],
      [`${side}.mid.block_2.`, `${side}.mid_block.resnets.1.`],
      [`${side}.mid.attn_1.`, `${side}.mid_block.attentions.0.`],
      [`${side}.norm_out.`, `${side}.conv_norm_out.`],
      ...Array.from({ length: levels }, (_, level): Renames => {
        const to = `${side}.${long}.${side === "encoder" ? level : levels - 1 - level}.`;
        const from = `${side}.${short}.${level}.`;
        return [
          [`${from}block.`, `${to}resnets.`],
          [from, to],
        ];
      }).flat(),
    ];
  });
  return {
    prefixes: sides,
    within: [
      { below: /\.mid\.attn_1\./, parts: vaeAttention },
      { below: /\.(down|up)\.\d+\./, parts: vaeParts },
    ],
  };
}

/** OpenCLIP's text tower. */
export const openClipNames: NameMap = {
  prefixes: [
    ["token_embedding.", "text_model.embeddings.token_embedding."],
    ["positional_embedding", "text_model.embeddings.position_embedding.weight"],
    ["ln_final.", "text_model.final_layer_norm."],
    ["text_projection", "text_projection.weight"],
    ["transformer.resblocks.", "text_model.encoder.layers."],
  ],
  within: [
    {
      below: /^transformer\.resblocks\./,
      parts: [
        ["ln_1.", "layer_norm1."],
        ["ln_2.", "layer_norm2."],
        ["mlp.c_fc.", "mlp.fc1."],
        ["mlp.c_proj.", "mlp.fc2."],
        ["attn.", "self_attn."],
      ],
    },
  ],
};

/** diffusers' name of a tensor; the original name if no replacement applies. */
export function renamed({ prefixes, within }: NameMap, original: string): string {
  const found = prefixes.find(([from]) => original.startsWith(from));
  const [from, to] = found ?? ["", ""];
  const parts = within.flatMap(({ below, parts }) => (below.test(original) ? parts : []));
  // Only whole parts are replaced: "q." does not match in "freq.".
  const rest = parts.reduce((name, [part, other]) => replacePart(name, part, other), original.slice(from.length));
  return to + rest;
}

function replacePart(name: string, part: string, other: string): string {
  if (name.startsWith(part)) return other + name.slice(part.length);
  const at = name.indexOf(`.${part}`);
  return at < 0 ? name : `${name.slice(0, at + 1)}${other}${name.slice(at + 1 + part.length)}`;
}
