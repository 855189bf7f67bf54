/**
 * Run as a process of its own by bench/engine.ts: loads the model, runs it, and prints the most memory that this took.
 *
 *     engine-memory.ts FOLDER OPTIONS.json
 */
import type { StagedOptions } from "../src/models/staged-session.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import { ditFeeds, loadDiT, openDiT } from "./dit.ts";

const [folder, options] = process.argv.slice(2) as [string, string];
const opened = await openDiT(folder);
const before = nodeRuntime.peakMemory();
const start = performance.now();
const model = await loadDiT(opened, JSON.parse(options) as StagedOptions);
const loaded = nodeRuntime.peakMemory();
const loadMs = performance.now() - start;
const feeds = ditFeeds(model, 1);
await model.run(feeds);
const again = performance.now();
await model.run(feeds);
const runMs = performance.now() - again;
const peak = nodeRuntime.peakMemory();
console.log(JSON.stringify({ before, loaded, peak, weights: opened.weights.bytes, loadMs, runMs }));
