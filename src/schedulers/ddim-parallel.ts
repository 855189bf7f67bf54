import { DDIMScheduler } from "./ddim.ts";

/** DDIM under the name that diffusers' parallel sampling gives it (Shih et al. 2023, arXiv 2305.16317): the same steps. */
export class DDIMParallelScheduler extends DDIMScheduler {
  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super(config, "DDIMParallelScheduler");
  }
}
