import { DDPMScheduler } from "./ddpm.ts";

/** DDPM under the name that diffusers' parallel sampling gives it (Shih et al. 2023, arXiv 2305.16317): the same steps. */
export class DDPMParallelScheduler extends DDPMScheduler {
  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super(config, "DDPMParallelScheduler");
  }
}
