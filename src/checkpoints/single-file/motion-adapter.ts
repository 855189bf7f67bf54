/**
 * A motion adapter in one file, in AnimateDiff's names or in diffusers' (AnimateDiff-Lightning), as the folder to which diffusers
 * would convert it. Sizes are those of the tensors; the number of heads and of groups, which no shape tells, those of all
 * published adapters.
 */
import { CheckpointError } from "../../errors.ts";
import { MemoryFolder } from "../files.ts";
import { quote } from "../json.ts";
import { isOfMotion, motionName } from "../motion-names.ts";
import { OpenedFolder } from "../opened-folder.ts";
import type { WeightFiles } from "../weight-files.ts";

const HEADS = 8;
const GROUPS = 32;
/** More than any UNet has resolutions, modules of one resolution, or blocks of a module. */
const MOST = 64;

/** Whether these are the names of a motion adapter alone: not of a whole UNet with motion modules, and not of a LoRA. */
export function isMotionAdapter(names: Iterable<string>): boolean {
  const all = [...names].map(plainName);
  return all.includes("down_blocks.0.motion_modules.0.norm.weight") && !all.some((name) => /\.resnets\./.test(name));
}

/** Some tools keep the name of the module that trained several copies. */
const plainName = (stored: string) => motionName(stored.replace(/^module\./, ""));

/** Throws CheckpointError for a file with more than motion modules, or with gaps between them. */
export function motionAdapterFolder(file: WeightFiles): OpenedFolder {
  const weights = file.renamed(plainName);
  const others = [...weights.entries.keys()].filter((name) => !isOfMotion(name));
  if (others.length > 0) {
    throw new CheckpointError(
      `${file.name}: is a motion adapter, but has tensors of other layers too (${others.slice(0, 5).map(quote).join(", ")}), as PIA's ` +
        "and SparseCtrl's have; these are not served.",
    );
  }
  const config = `${JSON.stringify(adapterConfig(weights), null, 2)}\n`;
  return new OpenedFolder(new MemoryFolder(file.name, new Map([["config.json", config]])), async () => weights);
}

function adapterConfig(weights: WeightFiles): Readonly<Record<string, unknown>> {
  const { entries, name: where } = weights;
  const count = (prefix: string): number => {
    const numbers = new Set<number>();
    for (const name of entries.keys()) {
      const number = name.startsWith(prefix) ? /^(\d{1,4})\./.exec(name.slice(prefix.length))?.[1] : undefined;
      if (number !== undefined) numbers.add(Number(number));
    }
    const found = numbers.size;
    if (found > 0 && found <= MOST && Math.max(...numbers) === found - 1) return found;
    throw new CheckpointError(
      `${where}: is no whole motion adapter: its ${prefix}* are numbered ${[...numbers].slice(0, 10).join(", ") || "nothing"}; expected ` +
        `0, 1, ... without gaps, at most ${MOST}.`,
    );
  };
  const shapeOf = (name: string): readonly number[] => {
    const entry = entries.get(name);
    if (entry) return entry.shape;
    throw new CheckpointError(`${where}: is no whole motion adapter: it lacks the tensor ${quote(name)}.`);
  };
  const levels = Array.from({ length: count("down_blocks.") }, (_, level) => `down_blocks.${level}.motion_modules.`);
  const middle = "mid_block.motion_modules.0.";
  const hasMiddle = entries.has(`${middle}proj_in.weight`);
  const table = shapeOf("down_blocks.0.motion_modules.0.transformer_blocks.0.pos_embed.pe");
  return {
    _class_name: "MotionAdapter",
    block_out_channels: levels.map((modules) => shapeOf(`${modules}0.norm.weight`)[0]),
    motion_layers_per_block: levels.map((modules) => count(modules)),
    motion_transformer_layers_per_block: levels.map((modules) => count(`${modules}0.transformer_blocks.`)),
    ...(hasMiddle && { motion_transformer_layers_per_mid_block: count(`${middle}transformer_blocks.`) }),
    motion_num_attention_heads: HEADS,
    motion_norm_num_groups: GROUPS,
    motion_max_seq_length: table[1],
    use_motion_mid_block: hasMiddle,
  };
}
