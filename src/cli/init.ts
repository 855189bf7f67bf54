import { Command, Option } from "commander";
import type { RawConfig } from "../checkpoints/diffusers-folder.ts";
import { ArgumentError } from "../errors.ts";
import { type NewModel, newNetwork, newPipeline, storedBytes, writeModel } from "../init/init-node.ts";
import { pipelineGeometry, pipelineNames } from "../init/pipelines.ts";
import { presets } from "../init/presets.ts";
import { checkFolder, freeSpace, isFreeFolder } from "../media/output-node.ts";
import { printResult } from "./json.ts";
import { numberBetween } from "./numbers.ts";
import { about, addOptions, type OutputOptions, outputOptions, shortNumber } from "./options.ts";
import { interruptible, note, ProgressBar, printUnlessQuiet } from "./terminal.ts";

const storage = { fp32: "F32", fp16: "F16", bf16: "BF16" } as const;

interface Options extends OutputOptions {
  out: string;
  seed: number;
  dtype: keyof typeof storage;
  network?: boolean;
  tiny?: boolean;
  withT5?: boolean;
}

const networkNames = [...presets.keys()].filter((name) => !pipelineNames.includes(name));

export function initCommand(): Command {
  const command = new Command("init")
    .description("write a model's folder with random weights, for measuring or training")
    .argument("<geometry>", `whole pipeline: ${pipelineNames.join(", ")}; network: ${networkNames.join(", ")}`)
    .requiredOption("--out <folder>", "where to write it; a new or an empty folder")
    .option("--network", "of a pipeline the UNet or transformer alone")
    .option("--tiny", "a pipeline with small networks, for trying things out (10 MB)")
    .option("--with-t5", "sd3.5-medium with its third text encoder, T5 (19 GB more), and a made-up tokenizer for it")
    .option("--seed <n>", "seed of the weights", numberBetween(0, Number.MAX_SAFE_INTEGER, { whole: true }), 0)
    .addOption(new Option("--dtype <type>", "how weights are stored").choices(Object.keys(storage)).default("fp32"));
  return addOptions(command, outputOptions("what was written", { force: false })).action(init);
}

async function init(geometry: string, options: Options): Promise<void> {
  const { out, seed, dtype, json } = options;
  const { className, model } = modelOf(geometry, options);
  const bytes = storedBytes(model, storage[dtype]);
  await about("--out", () => checkOut(out, bytes));
  if (model.pipeline) note(`${className}: ${partsText(model)}; ${shortNumber(bytes, "B")} as ${dtype}`);
  if (model.networks.has("text_encoder_3")) {
    note(
      "Note: T5's tokenizer is made up: it takes single characters and pairs of letters. T5's own is not part of halfstep.",
    );
  }
  const bar = new ProgressBar("writing {bar} {percentage} %, {eta_formatted} left");
  await interruptible("nothing was written.", async (signal) => {
    const onTensor = (_: string, written: number, total: number) => bar.show(written, total);
    await writeModel(out, model, { seed, dtype: storage[dtype], onTensor, signal });
  }).finally(() => bar.stop());
  const { parameters } = model;
  if (json) await printResult("init", { out, class: className, geometry, seed, dtype, parameters, bytes });
  else {
    await printUnlessQuiet(
      `${out}: ${className}, ${shortNumber(parameters)} random parameters, ${shortNumber(bytes, "B")} as ${dtype}`,
    );
  }
}

/** Throws ArgumentError for a name that is not known, and for options that it does not have. */
function modelOf(geometry: string, options: Options): { className: string; model: NewModel } {
  const { network = false, tiny = false, withT5 = false } = options;
  const config = presets.get(geometry);
  if (!config) {
    throw new ArgumentError(`There is no geometry "${geometry}"; choose one of ${[...presets.keys()].join(", ")}.`);
  }
  const pipeline = network ? undefined : pipelineGeometry(geometry, { tiny, withT5 });
  if (tiny && !pipeline) {
    throw new ArgumentError(`--tiny is for whole pipelines: ${pipelineNames.join(", ")}.`);
  }
  if (withT5 && !pipeline?.networks.has("text_encoder_3")) {
    throw new ArgumentError(`--with-t5 is for the pipeline sd3.5-medium; no other has a third text encoder.`);
  }
  if (pipeline) return { className: pipeline.className, model: newPipeline(pipeline) };
  return { className: classOf(config), model: newNetwork(config) };
}

const classOf = (config: RawConfig) => String(config["_class_name"]);

async function checkOut(out: string, bytes: number): Promise<void> {
  await checkFolder(out);
  if (!(await isFreeFolder(out))) {
    throw new ArgumentError(`${out}: it is not empty; a new model needs a folder of its own.`);
  }
  const free = await freeSpace(out);
  if (bytes <= free) return;
  throw new ArgumentError(
    `${out}: the weights take ${shortNumber(bytes, "B")}, and ${shortNumber(free, "B")} are free there; --dtype fp16 takes half of fp32.`,
  );
}

const partsText = ({ networks }: NewModel): string =>
  [...networks].map(([name, { parameters }]) => `${name} ${shortNumber(parameters)}`).join(", ");
