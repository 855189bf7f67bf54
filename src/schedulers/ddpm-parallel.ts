import { DDPMScheduler } from "./ddpm.ts";

/** DDPM under its name in diffusers' parallel sampling (Shih et al. 2023, arXiv 2305.16317), with the same steps. */
export class DDPMParallelScheduler extends DDPMScheduler {
  /** Throws ConfigError for keys and values that are not supported. */
  constructor(config: Readonly<Record<string, unknown>> = {}) {
    super(config, "DDPMParallelScheduler");
  }
}
