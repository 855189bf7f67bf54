/** Files of trials: written whole, with a checksum, and checked when they are read. */
import { createHash } from "node:crypto";
import { ArgumentError } from "../../errors.ts";
import type { Experiment } from "../../exploration/experiment.ts";
import type { AlgorithmName } from "../../exploration/learners/algorithms.ts";
import { checkObject } from "../../exploration/mdp/reading.ts";
import { checkTrial, type Trial, type TrialJson } from "../../exploration/trial.ts";
import type { FolderLock } from "../folder-lock.ts";
import { readJson } from "../read-json.ts";
import { writeWhole } from "../whole-file.ts";

const checksumOf = (text: string) => `sha256:${createHash("sha256").update(text).digest("hex")}`;

/** Saves a trial as it stands, if the folder is still this run's. */
export async function writeTrial(file: string, trial: Trial, lock: FolderLock): Promise<void> {
  let text: string;
  try {
    text = JSON.stringify(trial);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ArgumentError(`${file}: the policies of ${trial.episodes} episodes are too many for one file.`);
  }
  await lock.check();
  await writeWhole(file, `${text.slice(0, -1)},"checksum":"${checksumOf(text)}"}`);
}

/**
 * Reads a trial back. The checksum is that of its content without regard to whitespace. A file that was edited or damaged is
 * refused, and so is one whose content cannot belong to this experiment.
 */
export async function readTrial(
  file: string,
  experiment: Experiment,
  algorithm: AlgorithmName,
  seed: number,
): Promise<TrialJson> {
  try {
    const { checksum, ...trial } = checkObject(await readJson(file, { own: true }), "It");
    if (checksum !== checksumOf(JSON.stringify(trial))) {
      throw new ArgumentError("its content is not what its checksum says; it was edited or damaged.");
    }
    const checked = checkTrial(trial, experiment);
    if (checked.algorithm !== algorithm || checked.seed !== seed) {
      throw new ArgumentError(`it is of ${checked.algorithm} with seed ${checked.seed}.`);
    }
    return checked;
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error;
    throw new ArgumentError(
      `${file} is not a checkpoint of ${algorithm} with seed ${seed} (${error.message.replace(/\.$/, "")}): ` +
        "delete it to start that trial anew.",
    );
  }
}
