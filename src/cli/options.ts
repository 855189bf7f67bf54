/** Options that several commands share. */
import { InvalidArgumentError, Option } from "commander";
import { readDecimal } from "../checks.ts";
import { checkGuidanceInterval, type GuidanceInterval } from "../sampling/guidance.ts";
import { numberBetween } from "./numbers.ts";

export const threadsOption = () =>
  new Option("--threads <n>", "CPU threads (all cores)").argParser(numberBetween(1, 256, { whole: true }));

export const providerOption = () =>
  new Option("--provider <name>", "where to compute").choices(["cpu", "webgpu", "cuda"]).default("cpu");

export const guidanceIntervalOption = () =>
  new Option(
    "--guidance-interval <start:stop>",
    "steps with guidance, as shares of the run: 0:1 is all of them (the model's own)",
  ).argParser((text): GuidanceInterval => {
    const shares = text.split(":").map(readDecimal);
    try {
      checkGuidanceInterval(shares as unknown as GuidanceInterval);
    } catch {
      throw new InvalidArgumentError("It must be two numbers from 0 to 1, the first not above the second: 0.1:1.");
    }
    return shares as unknown as GuidanceInterval;
  });

/** 1234567 -> "1.2 M" */
export function shortNumber(value: number, unit = ""): string {
  const steps: [number, string][] = [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ];
  const [size, letter] = steps.find(([limit]) => value >= limit) ?? [1, ""];
  const digits = size === 1 ? 0 : value / size < 100 ? 1 : 0;
  return `${(value / size).toFixed(digits)} ${letter}${unit}`.trim();
}
