import { Command, Option } from "commander";
import { ArgumentError } from "../../errors.ts";
import { TightBounds } from "../../exploration/bounds/tight-bounds.ts";
import type { CertifiedMixture } from "../../exploration/learners/certified.ts";
import { EpsMix, type EpsMixDecision } from "../../exploration/learners/epsmix.ts";
import { type LearnerJson, restoredParts } from "../../exploration/learners/learner.ts";
import { StepMix, type StepMixDecision } from "../../exploration/learners/stepmix.ts";
import { actionsToJson, type Problem, type ProblemJson } from "../../exploration/mdp/problem.ts";
import { checkObject } from "../../exploration/mdp/reading.ts";
import { printResult } from "../json.ts";
import { addOptions, outputOptions } from "../options.ts";
import { ofFile, readJson } from "../read-json.ts";
import { print } from "../terminal.ts";
import { runCommand } from "./run.ts";

export function exploreCommand(): Command {
  return new Command("explore")
    .description("conservative exploration: learning without a policy below the threshold")
    .addCommand(runCommand())
    .addCommand(decideCommand());
}

interface DecideOptions {
  state: string;
  algorithm: "stepmix" | "epsmix";
  allowUnsafeBaseline?: boolean;
  json?: boolean;
}

function decideCommand(): Command {
  const command = new Command("decide")
    .description("one decision from saved counts")
    .requiredOption(
      "--state <file>",
      "JSON with sizes, rewards, initial, baseline, threshold, delta, bonusScale, counts",
    )
    .addOption(
      new Option("--algorithm <name>", "how to mix").choices(["stepmix", "epsmix"]).default("stepmix" as const),
    )
    .option("--allow-unsafe-baseline", "go on although the counts show that the baseline is below the threshold");
  return addOptions(command, outputOptions("the decision", { force: false })).action(decide);
}

/** A learner with the counts of a file, which may hold a saved learner. */
async function learnerOf({ state, algorithm }: DecideOptions): Promise<StepMix | EpsMix> {
  // A saved learner has more than a decision must have (tight bounds know past episodes), and all of it counts.
  const saved = checkObject(await readJson(state), "The state") as unknown as ProblemJson &
    Partial<LearnerJson> &
    Pick<LearnerJson, "counts">;
  const { problem, options } = restoredParts({ rewardSums: [], batch: 1, ...saved });
  const learner = algorithm === "stepmix" ? new StepMix(problem, options) : new EpsMix(problem, options);
  if (saved.own !== undefined) learner.bounds.restore(saved.own);
  return learner;
}

async function decide(options: DecideOptions): Promise<void> {
  const { state, allowUnsafeBaseline, json } = options;
  const learner = await ofFile(state, () => learnerOf(options));
  const { problem } = learner;
  const decision = learner.decision();
  const most = learner.bounds.upperOf(problem.horizon);
  if (!(most >= problem.threshold) && !allowUnsafeBaseline) {
    throw new ArgumentError(
      `The baseline's value is at most ${most} by these counts, ${problem.threshold - most} below the threshold ` +
        `${problem.threshold}: it is not safe (--allow-unsafe-baseline decides all the same).`,
    );
  }
  if (json) return printResult("explore decide", { ...decision, ...policiesOf(learner, decision) });
  const lines = decision.certified ? linesOfCertified(decision.kind, decision.certified) : linesOf(decision, problem);
  lines.push(`  threshold ${problem.threshold}, delta ${problem.delta}, bonus scale ${problem.bonusScale}`);
  await print(lines.join("\n"));
}

/** What has to be known to play a decision: the policies that it names. */
function policiesOf({ problem, bounds }: StepMix | EpsMix, decision: StepMixDecision | EpsMixDecision) {
  const pessimistic = decision.certified && bounds instanceof TightBounds ? bounds.actionsOf("pessimistic") : undefined;
  return {
    ...(("h0" in decision || pessimistic) && { optimisticPolicy: actionsToJson(bounds.optimistic, problem) }),
    ...(pessimistic && { pessimisticPolicy: actionsToJson(pessimistic, problem) }),
  };
}

function linesOf(decision: StepMixDecision | EpsMixDecision, { horizon }: Problem): string[] {
  if ("h0" in decision) {
    const { kind, h0, rho, lowerBounds } = decision;
    return [
      `${kind}: ${h0} of ${horizon} steps by the baseline, one fewer with probability ${rho}`,
      ...lowerBounds.map((lower, i) => `  ${i} steps by the baseline: value at least ${lower}`),
    ];
  }
  const { kind, epsilon, lowerBounds } = decision;
  return [
    `${kind}: the baseline with probability ${epsilon}`,
    `  optimistic policy: value at least ${lowerBounds.optimistic}`,
    `  baseline: value at least ${lowerBounds.baseline}`,
  ];
}

function linesOfCertified(kind: string, { safe, bold, rho }: CertifiedMixture): string[] {
  const parts = bold ? ([[safe, 1 - rho], [bold, rho]] as const) : ([[safe, 1]] as const); // biome-ignore format: one row
  return [
    `${kind} of what the data vouch for:`,
    ...parts.map(
      ([{ h0, rest, lower }, weight]) =>
        `  with probability ${weight} ${h0} steps by the baseline, then the ${rest} policy: value at least ${lower}`,
    ),
  ];
}
