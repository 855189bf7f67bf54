/** The names of AnimateDiff's own files, and diffusers' for the same tensors. */

/** diffusers' name of a motion module's tensor or layer; other names, and diffusers' own, stay as they are. */
export function motionName(stored: string): string {
  return stored
    .replace(".temporal_transformer.", ".")
    .replace(/\.attention_blocks\.0\.pos_encoder\.pe$/, ".pos_embed.pe")
    .replace(/\.attention_blocks\.([01])\./, (_, i: string) => `.attn${Number(i) + 1}.`)
    .replace(/\.norms\.([01])\./, (_, i: string) => `.norm${Number(i) + 1}.`)
    .replace(".ff_norm.", ".norm3.");
}

/** Whether a tensor or a layer belongs to a motion module. */
export const isOfMotion = (name: string): boolean => /(^|[._])motion_modules[._]\d/.test(name);
