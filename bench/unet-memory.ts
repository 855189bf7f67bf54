/**
 * Run as a process of its own by bench/families.ts: compiles Stable Diffusion's UNet, runs it once, and prints the most memory
 * that this took.
 *
 *     unet-memory.ts FOLDER SEED THREADS [planned]
 */
import { nodeRuntime } from "../src/runtime/node.ts";
import { openUNet } from "./unet.ts";

const [folder, seed, threads, way] = process.argv.slice(2) as [string, string, string, string?];
const unet = await openUNet(folder);
const options = { threads: Number(threads) };
const session = way === "planned" ? await unet.loadPlanned(options) : await unet.load(options);
const loaded = nodeRuntime.peakMemory();
await session.run(unet.feeds(Number(seed)));
const peak = nodeRuntime.peakMemory();
console.log(JSON.stringify({ loaded, peak, weights: unet.weights.bytes, values: unet.values }));
