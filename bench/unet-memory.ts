/**
 * Run as a process of its own by bench/families.ts: compiles Stable Diffusion's UNet, runs it once, and prints the most memory
 * that this took.
 *
 *     unet-memory.ts FOLDER SEED OPTIONS.json
 */
import { nodeRuntime } from "../src/runtime/node.ts";
import type { StagedOptions } from "../src/models/staged-session.ts";
import { openUNet } from "./unet.ts";

const [folder, seed, options] = process.argv.slice(2) as [string, string, string];
const unet = await openUNet(folder);
const session = await unet.load(JSON.parse(options) as StagedOptions);
const loaded = nodeRuntime.peakMemory();
await session.run(unet.feeds(Number(seed)));
const peak = nodeRuntime.peakMemory();
console.log(JSON.stringify({ loaded, peak, weights: unet.weights.bytes, values: unet.values }));
