/**
 * Run as a process of its own by bench/families.ts: `halfstep` with the given arguments, and after what it prints a line with
 * the most memory that this process took.
 */
import { halfstepProgram } from "../src/cli/program.ts";
import { nodeRuntime } from "../src/runtime/node.ts";

await halfstepProgram().parseAsync(process.argv.slice(2), { from: "user" });
console.log(JSON.stringify({ peak: nodeRuntime.peakMemory() }));
