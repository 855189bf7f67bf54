/**
 * A video of a prompt: npx tsx examples/video.ts "fire" fire.gif
 * With Step Rehash most of the later steps run only the last layers of the UNet.
 */
import { TextToVideoPipeline, writeAnimation } from "halfstep";

const [prompt = "a beating heart", file = "heart.gif"] = process.argv.slice(2);

const pipe = await TextToVideoPipeline.fromPretrained("fluent-emoji-motion");
const { videos, seeds, fullSteps, rehashSteps } = await pipe(prompt, {
  frames: 16,
  steps: 25,
  seed: 7,
  accelerate: "rehash",
  onStep: ({ index, steps }) => {
    process.stderr.write(`\r${index + 1} of ${steps} steps`);
  },
});
// .gif, .webp and .mp4 (which needs ffmpeg); an existing file is kept, and the new one is fire-2.gif.
const written = await writeAnimation(file, videos[0]!, { text: { prompt, seed: String(seeds[0]) }, overwrite: false });
console.log(`\n${written}: ${fullSteps} full steps, ${rehashSteps} rehash steps`);
