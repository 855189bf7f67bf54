/** The worker's side: opens one pipeline and runs its calls. */
import { platform } from "#platform";
import { ArgumentError, StateError } from "../../errors.ts";
import { ClassToImagePipeline } from "../../pipelines/class-to-image.ts";
import { ImageToVideoPipeline } from "../../pipelines/image-to-video.ts";
import { TextToImagePipeline } from "../../pipelines/text-to-image.ts";
import { TextToVideoPipeline } from "../../pipelines/text-to-video.ts";
import type { SamplerStep } from "../../sampling/sampler.ts";
import { type FromWorker, type OpenInput, type Port, pictureBuffers, type ToWorker, toWire } from "../messages.ts";

/** What this file needs of a pipeline, whichever it is. */
interface Opened {
  generate(input: never, options: object): Promise<object>;
  release(): Promise<void>;
}

const pipelines = new Map<string, { fromPretrained(model: string, options: object): Promise<unknown> }>([
  ["TextToImagePipeline", TextToImagePipeline],
  ["ClassToImagePipeline", ClassToImagePipeline],
  ["TextToVideoPipeline", TextToVideoPipeline],
  ["ImageToVideoPipeline", ImageToVideoPipeline],
]);

/** Answers what comes from `port` until that is closed. */
export function serve(port: Port<ToWorker>): void {
  const running = new Map<number, AbortController>();
  const answers = new Map<number, () => void>();
  let pipeline: Opened | null = null;

  const send = (message: FromWorker, transfer: ArrayBuffer[] = []) => port.post(message, transfer);

  /** A function for an option: calls the one on the other side. Steps wait for it, as they do without a worker. */
  const remote = (id: number, name: string) =>
    name === "onStep"
      ? (step: SamplerStep) => {
          // The sampler goes on with its own.
          const data = step.latents.data.slice();
          const args = [{ ...step, latents: { ...step.latents, data } }];
          const answered = new Promise<void>((resolve) => answers.set(id, resolve));
          send({ type: "callback", id, name, args }, [data.buffer]);
          return answered;
        }
      : (...args: unknown[]) => send({ type: "callback", id, name, args });

  async function call({ id, method, input, options, callbacks }: ToWorker & { type: "call" }): Promise<unknown> {
    const controller = new AbortController();
    running.set(id, controller);
    const functions = Object.fromEntries(callbacks.map((name) => [name, remote(id, name)]));
    const whole = { ...options, ...functions, signal: controller.signal };
    if (method === "open") {
      const { pipeline: name, model, settings } = input as OpenInput;
      if (pipeline) throw new StateError("This worker has a pipeline already; start one worker for each.");
      const Pipeline = pipelines.get(name);
      if (!Pipeline) throw new ArgumentError(`This worker knows no ${name}; it is of another version of halfstep.`);
      platform.applySettings(settings);
      pipeline = (await Pipeline.fromPretrained(model, whole)) as Opened;
      return propertiesOf(pipeline);
    }
    if (!pipeline) throw new StateError("This worker has no pipeline yet.");
    return method === "generate" ? pipeline.generate(input as never, whole) : pipeline.release();
  }

  async function receive(message: ToWorker): Promise<void> {
    const { id, type } = message;
    if (type === "abort") {
      running.get(id)?.abort();
      answers.get(id)?.();
      return;
    }
    if (type === "answer") return answers.get(id)?.();
    try {
      const result = await call(message);
      send({ type: "done", id, result }, pictureBuffers(result));
    } catch (error) {
      send({ type: "failed", id, error: toWire(error) });
    } finally {
      running.delete(id);
      answers.delete(id);
    }
  }

  port.listen(receive, () => undefined);
}

/** The properties of a pipeline that can be read without a call: names, numbers, configurations. */
function propertiesOf(pipeline: Opened): Record<string, unknown> {
  const names = [
    "name",
    "className",
    "guidanceScale",
    "guidanceInterval",
    "maxSequenceLength",
    "cleanCaption",
    "schedulerConfig",
    "labels",
  ];
  const values = pipeline as unknown as Readonly<Record<string, unknown>>;
  return Object.fromEntries(names.filter((name) => values[name] !== undefined).map((name) => [name, values[name]]));
}
