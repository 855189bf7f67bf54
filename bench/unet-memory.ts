/**
 * Run as a process of its own by bench/families.ts: compiles Stable Diffusion's UNet, runs it once, and prints the most memory
 * that this took.
 *
 *     unet-memory.ts FOLDER THREADS SEED
 */
import { nodeRuntime } from "../src/runtime/node.ts";
import { openUNet } from "./unet.ts";

const [folder, threads, seed] = process.argv.slice(2) as [string, string, string];
const unet = await openUNet(folder);
const session = await unet.load(Number(threads));
await session.run(unet.feeds(Number(seed)));
console.log(JSON.stringify({ peak: nodeRuntime.peakMemory(), weights: unet.weights.bytes, values: unet.values }));
