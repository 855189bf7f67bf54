/** The folders of test/fixtures/pipelines that test/fixtures/animatediff.py makes, with the weights that it draws. */
import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { RawConfig } from "../../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../../src/checkpoints/node.ts";
import { writeSafetensors } from "../../src/checkpoints/safetensors-node.ts";
import type { SchedulerChoice } from "../../src/schedulers/registry.ts";
import type { Tensor } from "../../src/tensor.ts";
import { drawWeights } from "./drawn.ts";
import { fixture, tensors } from "./golden.ts";
import { temporaryFolder } from "./models.ts";

export const animateDiffCases = ["animatediff-sd", "animatediff-sdxl", "animatediff-sdxl-lcm"] as const;
export type AnimateDiffCase = (typeof animateDiffCases)[number];

const unetFile = "diffusion_pytorch_model.safetensors";

/** A copy of the fixture with its weights and tokenizers. */
export async function writeAnimateDiff(name: AnimateDiffCase): Promise<NodeFolder> {
  const path = await temporaryFolder();
  await cp(fixture(`pipelines/${name}`).path, path, { recursive: true });
  const suffixes = name === "animatediff-sd" ? [""] : ["", "_2"];
  const encoders = suffixes.map((suffix) => [`text_encoder${suffix}`, "model.safetensors"] as const);
  for (const [part, file] of [["unet", unetFile], ["vae", unetFile], ...encoders] as const) {
    const raw = JSON.parse(await readFile(join(path, part, "config.json"), "utf8")) as RawConfig;
    await writeSafetensors(join(path, part, file), drawWeights(raw));
  }
  for (const suffix of suffixes) {
    for (const file of ["vocab.json", "merges.txt"]) {
      await writeFile(
        join(path, `tokenizer${suffix}`, file),
        await readFile(join(fixture("clip-tokenizer").path, file)),
      );
    }
  }
  return new NodeFolder(path, name);
}

/** A folder's UNet taken apart: it becomes that of images, and the motion modules an adapter in a folder of its own. */
export async function takenApart(folder: NodeFolder): Promise<{ base: NodeFolder; adapter: NodeFolder }> {
  const [base, adapter] = [await temporaryFolder(), await temporaryFolder()];
  await cp(folder.path, base, { recursive: true });
  const all = [...(await tensors(folder, `unet/${unetFile}`))];
  const isMotion = ([name]: [string, unknown]) => name.includes(".motion_modules.");
  await writeSafetensors(join(adapter, unetFile), new Map(all.filter(isMotion)));
  await writeSafetensors(join(base, "unet", unetFile), new Map(all.filter((entry) => !isMotion(entry))));
  const unet = JSON.parse(await readFile(join(folder.path, "unet", "config.json"), "utf8"));
  const spatial = (types: string[]) => types.map((type) => type.replace("Motion", "2D"));
  const motion =
    /^(motion_|temporal_|reverse_(motion|temporal)|use_motion|mid_block_layers|num_attention_heads|transformer_layers_per_mid)/;
  const write = (path: string, value: object) => writeFile(path, JSON.stringify(value));
  await write(join(base, "unet", "config.json"), {
    ...Object.fromEntries(Object.entries(unet).filter(([key]) => !motion.test(key))),
    _class_name: "UNet2DConditionModel",
    attention_head_dim: unet.num_attention_heads,
    down_block_types: spatial(unet.down_block_types),
    up_block_types: spatial(unet.up_block_types),
  });
  await write(join(adapter, "config.json"), {
    _class_name: "MotionAdapter",
    block_out_channels: unet.block_out_channels,
    motion_layers_per_block: unet.layers_per_block,
    motion_num_attention_heads: unet.motion_num_attention_heads,
    motion_norm_num_groups: unet.norm_num_groups,
    motion_max_seq_length: unet.motion_max_seq_length,
    use_motion_mid_block: unet.use_motion_mid_block,
  });
  return { base: new NodeFolder(base, folder.name), adapter: new NodeFolder(adapter, "adapter") };
}

/** What diffusers was called with. */
export interface RecordedVideo {
  prompt: string | string[];
  negative_prompt?: string | string[];
  prompt_2?: string;
  negative_prompt_2?: string;
  num_frames: number;
  guidance_scale: number;
  guidance_rescale?: number;
  num_inference_steps: number;
  height?: number;
  width?: number;
  clip_skip?: number;
  seeds: number[];
  scheduler?: string;
  loras?: [file: string, scale: number][];
  original_size?: [number, number];
  crops_coords_top_left?: [number, number];
  target_size?: [number, number];
}

/** The runs that diffusers made of it, by name. */
export async function recordedVideos(name: AnimateDiffCase) {
  const folder = fixture(`pipelines/${name}`);
  const names = (await folder.json("calls.json")) as string[];
  const calls = names.map(async (run) => ({
    run,
    call: (await folder.json(`call.${run}.json`)) as RecordedVideo,
    io: (await tensors(folder, `io.${run}.safetensors`)) as Map<string, Tensor>,
  }));
  return Promise.all(calls);
}

/** The options with which a call here has the recorded one's scheduler, from that of the folder. */
export const solverOptionsOf: ReadonlyMap<
  string | undefined,
  { scheduler?: SchedulerChoice; timestepSpacing?: "trailing" }
> = new Map([
  [undefined, {}],
  ["scheduler_lcm", { scheduler: "lcm" as const }],
  ["scheduler_lightning", { scheduler: "euler" as const, timestepSpacing: "trailing" as const }],
]);
