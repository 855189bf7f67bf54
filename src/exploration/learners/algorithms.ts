/** All learners by name. */
import { ArgumentError } from "../../errors.ts";
import { checkStepMix, checkTight } from "../mdp/decision-cost.ts";
import type { Problem } from "../mdp/problem.ts";
import { BpiUcbvi } from "./bpi-ucbvi.ts";
import { ConservativeUcbvi } from "./conservative-ucbvi.ts";
import { EpsMix } from "./epsmix.ts";
import type { Learner, LearnerJson, LearnerOptions } from "./learner.ts";
import { StepMix } from "./stepmix.ts";

/** All algorithms: StepMix, EpsMix and those that they are compared with. */
export const algorithmNames = ["stepmix", "epsmix", "bpi-ucbvi", "conservative-ucbvi", "optpess-lp", "dope"] as const;
/** Name of an algorithm, as on the command line. */
export type AlgorithmName = (typeof algorithmNames)[number];

const bounded = {
  stepmix: StepMix,
  epsmix: EpsMix,
  "bpi-ucbvi": BpiUcbvi,
  "conservative-ucbvi": ConservativeUcbvi,
} as const;

/** The linear programs load a solver of 3 MB, and only when they are used. */
async function withSolver(name: "optpess-lp" | "dope") {
  const { loadSolver } = await import("./linear-program.ts");
  const solver = await loadSolver();
  const algorithm = name === "dope" ? (await import("./dope.ts")).Dope : (await import("./optpess-lp.ts")).OptPessLp;
  return { solver, algorithm };
}

/** A new learner by the name of its algorithm. */
export async function createLearner(name: AlgorithmName, problem: Problem, options?: LearnerOptions): Promise<Learner> {
  if (name === "optpess-lp" || name === "dope") {
    const { solver, algorithm } = await withSolver(name);
    return new algorithm(problem, solver, options);
  }
  return new bounded[name](problem, options);
}

/**
 * Checks, before the first episode, that these algorithms can run on a problem of this size (else throws ArgumentError) and that
 * the packages they need are installed (else ToolError).
 */
export async function checkAlgorithms(names: readonly AlgorithmName[], problem: Problem): Promise<void> {
  checkTight(problem);
  for (const name of names) {
    if (name === "stepmix") checkStepMix(problem);
    if (name !== "optpess-lp" && name !== "dope") continue;
    const { algorithm } = await withSolver(name);
    algorithm.check(problem);
  }
}

/** A saved learner of any kind. */
export async function restoreLearner(json: LearnerJson): Promise<Learner> {
  const name = json.algorithm as AlgorithmName;
  if (!algorithmNames.includes(name)) throw new ArgumentError(`There is no algorithm "${json.algorithm}".`);
  if (name === "optpess-lp" || name === "dope") {
    const { solver, algorithm } = await withSolver(name);
    return algorithm.fromJSON(json, solver);
  }
  return bounded[name].fromJSON(json);
}
