/**
 * A denoiser of your own: npx tsx examples/denoiser.ts "a red apple"
 * What the sampler calls at each step is a Denoiser. This one leaves the network out at every second step, and goes on from its last
 * two outputs in a straight line. The network itself is the pipeline's denoiser that does every step in full.
 */
import {
  type Action,
  type Denoiser,
  DenoiserByRows,
  type Feeds,
  type FloatTensor,
  floatTensor,
  pickScheduler,
  psnr,
  RawImage,
  type StepContext,
  TextToImagePipeline,
  TorchGenerator,
  toPictures,
} from "halfstep";

class Extrapolating implements Denoiser {
  readonly actions: Action[] = [];
  readonly #network: Denoiser;
  #outputs: { step: number; output: FloatTensor }[] = [];

  constructor(network: Denoiser) {
    this.#network = network;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const [last, before] = this.#outputs;
    const inPart = last && before && step.index % 2 === 1 && step.index < step.steps - 1;
    this.actions.push(inPart ? "inner" : "full");
    if (inPart) return line(before, last, step.index);
    const output = await this.#network.run(feeds, step);
    this.#outputs = [{ step: step.index, output }, ...this.#outputs].slice(0, 2);
    return output;
  }
}

/** The value at step `at` of the straight line through two outputs. */
function line(a: { step: number; output: FloatTensor }, b: { step: number; output: FloatTensor }, at: number) {
  const share = (at - a.step) / (b.step - a.step);
  const values = a.output.data.map((value, i) => value + share * (b.output.data[i]! - value));
  return floatTensor(a.output.shape, values);
}

const [prompt = "a red apple"] = process.argv.slice(2);
const steps = 20;
const pipe = await TextToImagePipeline.fromPretrained("fluent-emoji");

// What pipe(prompt) does, step by step.
const { embeddings } = await pipe.embed([prompt, ""]);
const rowOf = (tensor: FloatTensor, row: number) => {
  const size = tensor.data.length / tensor.shape[0]!;
  return floatTensor([1, ...tensor.shape.slice(1)], tensor.data.slice(row * size, (row + 1) * size));
};
const embeddingOf = (row: number) => ({
  encoderHiddenStates: rowOf(embeddings.encoderHiddenStates, row),
  encoderAttentionMask: rowOf(embeddings.encoderAttentionMask!, row),
});
const { sampleSize, inChannels } = pipe.transformer.config;
const latent = { height: sampleSize, width: sampleSize };
const network = await pipe.openDenoiser(
  { ...latent, tokens: embeddings.encoderHiddenStates.shape[1]! },
  { method: "none" },
);

async function draw(denoiser: Denoiser): Promise<RawImage> {
  const latents = await pipe.sampleLatents({
    scheduler: pickScheduler(pipe.schedulerConfig),
    steps,
    guidanceScale: pipe.guidanceScale,
    noise: new TorchGenerator(7).randn([1, inChannels, latent.height, latent.width]),
    prompt: embeddingOf(0),
    negative: embeddingOf(1),
    denoiser,
  });
  return new RawImage(toPictures(await pipe.decode(latents))[0]!);
}

const full = await draw(network);
// Another number of rows, where guidance begins or ends, starts a new one: outputs of other rows do not go together.
const own = new DenoiserByRows(() => new Extrapolating(network));
const image = await draw(own);
const count = own.actions.filter((action) => action === "full").length;
console.log(`${count} of ${steps} steps full, PSNR to ${steps} full steps ${psnr(image, full).toFixed(1)} dB`);
await image.save("extrapolated.png", { text: { prompt } });
