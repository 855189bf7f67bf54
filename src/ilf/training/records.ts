/**
 * What distillation learns from: the steps of a sampler's runs, as the feedback module meets them. At every inner step
 * the frozen backbone says what a full step would have given.
 */
import { mapStreams, pickStreams, type Streams } from "../../caching/streams.ts";
import { ArgumentError } from "../../errors.ts";
import { streamsInto, streamsOf } from "../../models/split-model.ts";
import { type Denoiser, type Feeds, runParts } from "../../sampling/denoiser.ts";
import { stack } from "../../sampling/guidance.ts";
import type { Action, StepContext, StepPolicy } from "../../sampling/step-policy.ts";
import { type FloatTensor, floatOf, sizeOf, type Tensor } from "../../tensor.ts";
import { StepMemory } from "../denoiser.ts";
import { type IlfSessions, moduleInputs } from "../steps.ts";
import { predictedOf } from "../stream-names.ts";

/** An inner step of some pictures at once: first half of the rows without, second half with the condition. */
export interface StepRecord {
  /** What the feedback module and the blocks after it read. */
  readonly feeds: Readonly<Record<string, Tensor>>;
  /** The backbone's output, and its features where inner steps come back in. */
  readonly target: FloatTensor;
  readonly targetFeatures: Streams;
}

export interface RecordedStep extends StepRecord {
  /** Of the step in its run. */
  readonly index: number;
}

/**
 * Samples as `IlfDenoiser` would and records every inner step beside what a full step gives. After each of them
 * `onOwnOutput` says whether the sampler goes on from the feedback module's output, as it will later, or from the
 * backbone's.
 */
export class RecordingDenoiser implements Denoiser {
  readonly actions: Action[] = [];
  readonly records: RecordedStep[];
  readonly #sessions: IlfSessions;
  readonly #policy: StepPolicy;
  readonly #onOwnOutput: () => boolean;
  readonly #memory = new StepMemory();

  /** Records go to the end of `records`. */
  constructor(sessions: IlfSessions, policy: StepPolicy, onOwnOutput: () => boolean, records: RecordedStep[] = []) {
    this.records = records;
    this.#sessions = sessions;
    this.#policy = policy;
    this.#onOwnOutput = onOwnOutput;
  }

  async run(feeds: Feeds, step: StepContext): Promise<FloatTensor> {
    const { parts, feed, resume, after, feedback } = this.#sessions;
    const chosen = this.#policy(step);
    const { carried } = this.#memory;
    const action = carried ? chosen : "full";
    this.actions.push(action);
    const entered = await runParts(parts.slice(0, 1), feeds);
    const names = streamsOf(parts[0]!.model);
    const embedding = pickStreams(entered, names);
    // A full step, whatever the action. streams[i] is what leaves part i.
    const streams = [embedding];
    let features: Record<string, Tensor> = entered;
    for (const part of parts.slice(1)) {
      features = await runParts([part], features);
      streams.push(pickStreams(features, names));
    }
    const target = floatOf(features, "sample");
    if (!carried || action === "full") {
      this.#memory.full(step, streams[feed]!, embedding);
      return target;
    }
    const read = moduleInputs(entered, carried);
    const targetFeatures = pickStreams(streams[resume - 1]!, streamsInto(parts[resume]!.model));
    this.records.push({ feeds: read, target, targetFeatures, index: step.index });
    const predicted = predictedOf((await feedback(read)) as Streams);
    this.#memory.inner(predicted.features, embedding);
    if (!this.#onOwnOutput()) return target;
    return floatOf(await runParts(parts.slice(after), { ...entered, ...predicted.streams }), "sample");
  }
}

/** A record of a step without guidance as one with it: both halves are the condition's. */
export function inBothHalves({ feeds, target, targetFeatures }: StepRecord): StepRecord {
  return {
    feeds: Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, stack(tensor, tensor)])),
    target: stack(target, target),
    targetFeatures: mapStreams(targetFeatures, (features) => stack(features, features)),
  };
}

/** The latest records, up to a number of bytes; one is kept in any case. */
export class RecordBuffer {
  readonly #capacity: number;
  readonly #reads: readonly string[];
  readonly #records: StepRecord[] = [];
  /** How many records have a tensor: captions are the same at every step, an embedding is the next step's carried one. */
  readonly #uses = new Map<Tensor["data"], number>();
  #bytes = 0;
  /** Records that were ever added. */
  added = 0;

  /** `reads` are the features that training needs of a record's; the others are let go. */
  constructor(capacity: number, reads: readonly string[]) {
    this.#capacity = capacity;
    this.#reads = reads;
  }

  get size(): number {
    return this.#records.length;
  }

  /** Of all tensors, each counted once. */
  get bytes(): number {
    return this.#bytes;
  }

  add(records: readonly StepRecord[]): void {
    for (const { feeds, ...targets } of records) {
      const record = { feeds: Object.fromEntries(this.#reads.map((name) => [name, feeds[name]!])), ...targets };
      this.#records.push(record);
      this.#count(record, 1);
      this.added++;
      while (this.#bytes > this.#capacity && this.#records.length > 1) this.#count(this.#records.shift()!, -1);
    }
  }

  #count({ feeds, target, targetFeatures }: StepRecord, change: 1 | -1): void {
    for (const { data } of [...Object.values(feeds), target, ...Object.values(targetFeatures)]) {
      const before = this.#uses.get(data) ?? 0;
      const after = before + change;
      if (after === 0) this.#uses.delete(data);
      else this.#uses.set(data, after);
      if (before === 0 || after === 0) this.#bytes += change * data.byteLength;
    }
  }

  /**
   * A batch of `count` pictures' steps, each drawn on its own. Tensors as in a record: `count` rows without the
   * condition, then `count` with it; rows of unguided pictures are there once. Throws ArgumentError if there are no
   * records.
   */
  draw(count: number, guided: boolean, random: () => number): StepRecord {
    if (this.#records.length === 0) {
      throw new ArgumentError("There is no inner step to learn from: the schedule has full steps alone.");
    }
    const drawn = Array.from({ length: count }, () => {
      const record = this.#records[Math.floor(random() * this.#records.length)]!;
      const pictures = record.target.shape[0]! / (guided ? 2 : 1);
      return { record, row: Math.floor(random() * pictures), pictures };
    });
    const gather = <T extends Tensor>(tensorOf: (record: StepRecord) => T): T => {
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
      return { ...first, shape: [halves * count, ...first.shape.slice(1)], data } as T;
    };
    return {
      feeds: Object.fromEntries(this.#reads.map((name) => [name, gather(({ feeds }) => feeds[name]!)])),
      target: gather(({ target }) => target),
      targetFeatures: Object.fromEntries(
        Object.keys(drawn[0]!.record.targetFeatures).map((stream) => [
          stream,
          gather(({ targetFeatures }) => targetFeatures[stream]!),
        ]),
      ),
    };
  }
}
