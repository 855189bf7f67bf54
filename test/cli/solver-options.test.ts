import { Command } from "commander";
import { describe, expect, it } from "vitest";
import { addOptions, type SamplerOptions, samplerOf, samplerOptions } from "../../src/cli/options.ts";

/** What a pipeline is told of the solver. */
function told(...args: string[]) {
  const command = addOptions(
    new Command().exitOverride().configureOutput({ writeErr: () => {} }),
    samplerOptions(20, ""),
  );
  command.parse(args, { from: "user" });
  return samplerOf(command.opts<SamplerOptions>());
}

describe("options of the solver", () => {
  it("reach the pipeline", () => {
    expect(told()).toEqual({ steps: 20 });
    expect(told("--scheduler", "ddim", "--eta", "0.5")).toEqual({ steps: 20, scheduler: "ddim", eta: 0.5 });
    expect(told("--timesteps", "999,500, 20.5")).toEqual({ timesteps: [999, 500, 20.5] });
    expect(told("--sigmas", "14.6,1e-1,0")).toEqual({ sigmas: [14.6, 0.1, 0] });
  });

  it.each([
    [["--timesteps", "999,500", "--steps", "2"], /cannot be used with option '--steps/],
    [["--timesteps", "999,500", "--sigmas", "1,0"], /cannot be used/],
    [["--timesteps", "999,,500"], /numbers with commas/],
    [["--timesteps", ""], /numbers with commas/],
    [["--sigmas", "0x10,0"], /numbers with commas/],
    [["--sigmas", "Infinity,0"], /numbers with commas/],
    [["--eta", "2"], /from 0 to 1/],
    [["--scheduler", "constructor"], /Allowed choices are ddim/],
  ])("refuse %j", (args, message) => {
    expect(() => told(...args)).toThrow(message);
  });
});
