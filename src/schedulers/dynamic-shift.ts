/** The shift of schedulers with `use_dynamic_shifting`, which depends on the size of the image: diffusers' calculate_shift. */
import { ConfigError } from "../errors.ts";
import type { Scheduler } from "./scheduler.ts";

/**
 * `mu` of `setTimesteps` for an image of so many patches, which are the tokens that the denoiser sees of it. It is `base_shift`
 * at `base_image_seq_len` patches, `max_shift` at `max_image_seq_len`, and on a line through both elsewhere. Undefined for a
 * scheduler without use_dynamic_shifting. Throws ConfigError if the two numbers of patches are the same.
 */
export function dynamicShift({ className, config }: Scheduler, patches: number): number | undefined {
  if (config["use_dynamic_shifting"] !== true) return undefined;
  // Classes without these keys are planned with what diffusers' pipelines have for them.
  const value = (key: string, usual: number) => {
    const own = config[key];
    return typeof own === "number" ? own : usual;
  };
  const [fewest, most] = [value("base_image_seq_len", 256), value("max_image_seq_len", 4096)];
  const [least, greatest] = [value("base_shift", 0.5), value("max_shift", 1.16)];
  if (fewest === most) {
    throw new ConfigError(
      `${className}: base_image_seq_len and max_image_seq_len are both ${most}; use_dynamic_shifting needs two sizes.`,
    );
  }
  const slope = (greatest - least) / (most - fewest);
  return patches * slope + (least - slope * fewest);
}
