/**
 * What distillation learns from: the steps of a sampler's runs, as the feedback module meets them. At every inner step
 * the frozen backbone says what a full step would have given.
 */
import { minus } from "../caching/arrays.ts";
import { type Denoiser, type Feeds, runSegments } from "../sampling/denoiser.ts";
import type { Action, StepContext, StepPolicy } from "../sampling/step-policy.ts";
import { type FloatTensor, floatTensor, sizeOf, type Tensor } from "../tensor.ts";
import { type Carried, feedbackFeeds, type IlfSessions } from "./denoiser.ts";

/** An inner step of some pictures at once: first half of the rows without, second half with the condition. */
export interface StepRecord {
  /** What the feedback module and the blocks after it read. */
  readonly feeds: Readonly<Record<string, Tensor>>;
  /** The backbone's output, and its features where inner steps come back in. */
  readonly target: FloatTensor;
  readonly targetFeatures: FloatTensor;
}

/**
 * Samples as `IlfDenoiser` would and records every inner step beside what a full step gives. The sampler goes on from
 * the feedback module's output (`share` 1: the trajectory that is sampled later) or from the backbone's (0).
 */
export class RecordingDenoiser implements Denoiser {
  readonly actions: Action[] = [];
  readonly records: StepRecord[] = [];
  readonly #sessions: IlfSessions;
  readonly #policy: StepPolicy;
  readonly #onOwnOutput: () => boolean;
  #carried: Carried | null = null;
  #lastFull: { index: number; features: FloatTensor } | null = null;

  constructor(sessions: IlfSessions, policy: StepPolicy, onOwnOutput: () => boolean) {
    this.#sessions = sessions;
    this.#policy = policy;
    this.#onOwnOutput = onOwnOutput;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const { parts, feed, resume, feedback } = this.#sessions;
    const entered = await runSegments(parts.slice(0, 1), feeds);
    const embedding = entered["hiddenStates"] as FloatTensor;
    let features: Record<string, Tensor> = entered;
    let [fed, resumed] = [embedding, embedding];
    for (const [i, part] of parts.entries()) {
      if (i === 0) continue;
      if (i === resume) resumed = features["hiddenStates"] as FloatTensor;
      features = await runSegments([part], features);
      if (i === feed) fed = features["hiddenStates"] as FloatTensor;
    }
    const target = features["sample"] as FloatTensor;
    const carried = this.#carried;
    const action = carried ? this.#policy(step) : "full";
    this.actions.push(action);
    if (!carried || action === "full") {
      const last = this.#lastFull;
      const trend = last ? minus(fed, last.features) : floatTensor(fed.shape);
      if (last) for (let i = 0; i < trend.data.length; i++) trend.data[i]! /= step.index - last.index;
      this.#lastFull = { index: step.index, features: fed };
      this.#carried = { features: fed, embedding, trend };
      return target;
    }
    const read = feedbackFeeds(entered, carried);
    this.records.push({ feeds: read, target, targetFeatures: resumed });
    const predicted = await feedback(read);
    this.#carried = { ...carried, features: predicted, embedding };
    if (!this.#onOwnOutput()) return target;
    const { sample } = await runSegments(parts.slice(resume), { ...entered, hiddenStates: predicted });
    return sample as FloatTensor;
  }
}

/** The latest records, up to a number of bytes. */
export class RecordBuffer {
  readonly #capacity: number;
  readonly #records: StepRecord[] = [];
  #bytes = 0;
  /** Records that were ever added. */
  added = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get size(): number {
    return this.#records.length;
  }

  add(records: readonly StepRecord[]): void {
    for (const record of records) {
      this.#records.push(record);
      this.#bytes += bytesOf(record);
      this.added++;
      while (this.#bytes > this.#capacity && this.#records.length > 1) this.#bytes -= bytesOf(this.#records.shift()!);
    }
  }

  /**
   * A batch of `count` pictures' steps, each drawn on its own. Tensors as in a record: `count` rows without the
   * condition, then `count` with it; rows of unguided pictures are there once. `names` are the features wanted.
   */
  draw(count: number, guided: boolean, names: readonly string[], random: () => number): StepRecord {
    const drawn = Array.from({ length: count }, () => {
      const record = this.#records[Math.floor(random() * this.#records.length)]!;
      const pictures = record.target.shape[0]! / (guided ? 2 : 1);
      return { record, row: Math.floor(random() * pictures), pictures };
    });
    const gather = (tensorOf: (record: StepRecord) => Tensor): Tensor => {
      const first = tensorOf(drawn[0]!.record);
      const each = sizeOf(first.shape.slice(1));
      const halves = guided ? 2 : 1;
      const data = new (first.data.constructor as Float32ArrayConstructor)(halves * count * each);
      for (let half = 0; half < halves; half++) {
        for (const [i, { record, row, pictures }] of drawn.entries()) {
          const from = (half * pictures + row) * each;
          data.set((tensorOf(record).data as Float32Array).subarray(from, from + each), (half * count + i) * each);
        }
      }
      return { ...first, shape: [halves * count, ...first.shape.slice(1)], data } as Tensor;
    };
    return {
      feeds: Object.fromEntries(names.map((name) => [name, gather(({ feeds }) => feeds[name]!)])),
      target: gather(({ target }) => target) as FloatTensor,
      targetFeatures: gather(({ targetFeatures }) => targetFeatures) as FloatTensor,
    };
  }
}

function bytesOf({ feeds, target, targetFeatures }: StepRecord): number {
  return [...Object.values(feeds), target, targetFeatures].reduce((sum, { data }) => sum + data.byteLength, 0);
}
