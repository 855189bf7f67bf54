/** How times are told. */
import { median } from "../src/cli/bench/averages.ts";

/** "median 12.3 ms (11.9 to 14.0 of 20)" */
export function spread(times: readonly number[]): string {
  const [low, high] = [Math.min(...times), Math.max(...times)];
  return `${median(times).toFixed(1)} ms (${low.toFixed(1)} to ${high.toFixed(1)} of ${times.length})`;
}
