/** The feedback module of a pipeline: its full and inner steps, compiled. */
import type { Folder } from "../checkpoints/files.ts";
import { type Component, MOST_TWICE } from "../components/components.ts";
import { SessionCache } from "../components/session-cache.ts";
import { FeedbackCheckpoint } from "../ilf/checkpoint.ts";
import { type FeedbackConfig, feedbackCuts } from "../ilf/config.ts";
import { FEEDBACK_PREFIX, type IlfSteps, StepsInParts, WholeSteps, wholeSteps } from "../ilf/steps.ts";
import { type Geometry, weightBytes } from "../models/architecture.ts";
import type { StagedSession } from "../models/staged-session.ts";

/** The feedback module in a pipeline's folder; null if it has none. */
export async function openFeedback(
  folder: Folder,
  transformer: Component<unknown>,
  mostTwice = MOST_TWICE,
): Promise<FeedbackComponent | null> {
  const feedback = await FeedbackCheckpoint.open(folder.sub("ilf"));
  return feedback && new FeedbackComponent(feedback, transformer, mostTwice);
}

let opened = 0;

/** A model's trained feedback module: `ilf/` of its folder. */
export class FeedbackComponent {
  /** Tells it from other modules of the same transformer. */
  readonly #name = `feedback ${++opened}`;
  readonly #feedback: FeedbackCheckpoint;
  readonly #transformer: Component<unknown>;
  /** The module alone, for a backbone in parts. */
  readonly #module = new SessionCache<StagedSession>();
  readonly #mostTwice: number;
  #inOneSession: boolean | undefined;

  constructor(feedback: FeedbackCheckpoint, transformer: Component<unknown>, mostTwice: number) {
    this.#feedback = feedback;
    this.#transformer = transformer;
    this.#mostTwice = mostTwice;
  }

  get config(): FeedbackConfig {
    return this.#feedback.config;
  }

  /**
   * Steps at this size. Throws CheckpointError for a module of another backbone or one that is malformed, ArgumentError for
   * blocks that the backbone does not have.
   */
  async steps(geometry: Geometry): Promise<IlfSteps> {
    this.#inOneSession ??= this.#bytesTwice(geometry) <= this.#mostTwice;
    return this.#inOneSession ? this.#wholeSteps(geometry) : this.#stepsInParts(geometry);
  }

  #bytesTwice(geometry: Geometry): number {
    const { shared } = wholeSteps(this.#transformer.model(geometry), this.config);
    return shared.reduce((sum, part) => sum + weightBytes(part), 0);
  }

  async #wholeSteps(geometry: Geometry): Promise<IlfSteps> {
    const transformer = this.#transformer;
    const [full, inner] = await transformer.assembled(JSON.stringify([this.#name, geometry]), async () => {
      const backbone = transformer.model(geometry);
      await this.#feedback.check(backbone, transformer.weights);
      const { full, inner } = wholeSteps(backbone, this.config);
      return { models: [full, inner], more: this.#feedback.weights.renamed((name) => FEEDBACK_PREFIX + name) };
    });
    return new WholeSteps(full!.forRun(), inner!.forRun());
  }

  async #stepsInParts(geometry: Geometry): Promise<IlfSteps> {
    const backbone = this.#transformer.model(geometry);
    const { cuts, ...places } = feedbackCuts(backbone, this.config);
    // First, because it refuses a module of another backbone.
    const module = await this.#module.get(JSON.stringify(geometry), async () => [
      await this.#transformer.withRuntime((runtime, options) =>
        this.#feedback.compile(runtime, backbone, this.#transformer.weights, { takesTurns: true, ...options }),
      ),
    ]);
    const parts = await this.#transformer.inParts(geometry, cuts);
    return new StepsInParts({
      parts: parts.map((part) => part.forRun()),
      ...places,
      feedback: (feeds) => module[0]!.run(feeds),
    });
  }

  /** Frees memory and threads. */
  release(): Promise<void> {
    return this.#module.release();
  }
}
