/** Recognises unsupported single-file checkpoints by the names of their tensors, and says how to convert them. */

interface SingleFile {
  readonly is: string;
  /** Patterns of tensor names of this kind; every pattern must match some name. */
  readonly has: readonly RegExp[];
  /** The diffusers class that reads it, if there is one. */
  readonly reader?: string;
}

const unet = /^model\.diffusion_model\.input_blocks\./;
const kinds: readonly SingleFile[] = [
  { is: "LoRA weights", has: [/\.lora_(A|B|up|down)\.|\.lora\.(up|down)\.|^lora_(unet|te\d?|transformer)_/] },
  { is: "a ControlNet", has: [/^control_model\.|controlnet_cond_embedding\./], reader: "ControlNetModel" },
  { is: "a FLUX checkpoint", has: [/(^|\.)double_blocks\.\d/], reader: "FluxPipeline" },
  {
    is: "a Stable Video Diffusion checkpoint",
    has: [unet, /\.time_stack\.|\.time_mixer\./],
    reader: "StableVideoDiffusionPipeline",
  },
  { is: "a PixArt transformer in its authors' layout", has: [/^t_block\.1\./, /^blocks\.0\.scale_shift_table$/] },
  { is: "a DiT in its authors' layout", has: [/^blocks\.0\.adaLN_modulation\./] },
];
const component = /^(transformer_blocks|down_blocks|encoder\.(block|down_blocks)|text_model|shared)\./;

/** Describes a safetensors file with tensors of these names, and how to convert it to something that can be opened. */
export function describeSingleFile(path: string, names: Iterable<string>): string {
  const all = [...names];
  const kind = kinds.find(({ has }) => has.every((pattern) => all.some((name) => pattern.test(name))));
  if (kind?.reader) {
    return (
      `is ${kind.is} in one file. In one file only Stable Diffusion 1, 2, XL and 3 are read. Convert it once in Python: ` +
      `diffusers.${kind.reader}.from_single_file(${JSON.stringify(path)}).save_pretrained("FOLDER"), then give FOLDER.`
    );
  }
  if (kind) return `is ${kind.is} in one file, which is not read yet; a model is a folder in diffusers' layout.`;
  const alone = "is a file, and a model is a folder in diffusers' layout";
  if (!all.some((name) => component.test(name))) return `${alone}; what this file holds is not known.`;
  return `${alone}. It seems to hold the weights of one component: give the folder that it lies in, with its config.json.`;
}
