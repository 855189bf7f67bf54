/**
 * A step policy of your own: npx tsx examples/step-policy.ts "a red apple"
 * The policy is asked before each step whether it is done in full, or in part as the method does that.
 */
import { psnr, type StepPolicy, TextToImagePipeline } from "halfstep";

const [prompt = "a red apple"] = process.argv.slice(2);

/** Full while the noise is high and the picture takes its shape; then every third step. Timesteps go from 999 down to 0. */
const fullWhileNoisy: StepPolicy = ({ index, timestep }) => (timestep > 700 || index % 3 === 0 ? "full" : "inner");

const pipe = await TextToImagePipeline.fromPretrained("fluent-emoji");
const reference = await pipe(prompt, { steps: 20, seed: 7, accelerate: "none" });
const { images, fullSteps } = await pipe(prompt, {
  steps: 20,
  seed: 7,
  accelerate: { method: "taylorseer", schedule: fullWhileNoisy },
});
const decibels = psnr(images[0]!, reference.images[0]!).toFixed(1);
console.log(`${fullSteps} of 20 steps full, PSNR to 20 full steps ${decibels} dB`);
