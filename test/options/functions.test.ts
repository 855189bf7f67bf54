/** Every public function that takes options refuses what it does not know, before it does anything. */
import { describe, expect, it } from "vitest";
import { ArgumentError } from "../../src/errors.ts";
import {
  ClassToImagePipeline,
  ClipJudge,
  downloadModel,
  evaluate,
  ImageToVideoPipeline,
  Inception,
  Judge,
  nodeRuntime,
  RawImage,
  TextToImagePipeline,
  TextToVideoPipeline,
  verifyFolder,
  writeAnimation,
} from "../../src/index.ts";
import { configureWebRuntime } from "../../src/runtime/web.ts";

const wrong = { sede: 1 } as object;
const nothing = undefined as never;
interface Opened {
  fromPretrained(model: string, options: object): Promise<unknown>;
  fromFolder(folder: never, runtime: typeof nodeRuntime, options: object): Promise<unknown>;
}
const pipelines: Readonly<Record<string, Opened>> = {
  TextToImagePipeline,
  ClassToImagePipeline,
  TextToVideoPipeline,
  ImageToVideoPipeline,
};
const calls: [string, () => Promise<unknown>][] = [
  ...Object.entries(pipelines).flatMap(([name, pipeline]): [string, () => Promise<unknown>][] => [
    [`${name}.fromPretrained`, () => pipeline.fromPretrained("none", wrong)],
    [`${name}.fromPretrained in a worker`, () => pipeline.fromPretrained("none", { ...wrong, worker: true } as object)],
    [`${name}.fromFolder`, () => pipeline.fromFolder(nothing, nodeRuntime, wrong)],
  ]),
  ["downloadModel", () => downloadModel("owner/name", wrong)],
  ["evaluate", () => evaluate(nothing, nothing, wrong)],
  ["verifyFolder", () => verifyFolder(nothing, nodeRuntime, wrong)],
  ["writeAnimation", () => writeAnimation("a.gif", nothing, wrong)],
  ["Judge.open", () => Judge.open(nothing, nodeRuntime, wrong)],
  ["ClipJudge.open", () => ClipJudge.open(nothing, nodeRuntime, wrong)],
  ["Inception.open", () => Inception.open(nothing, nodeRuntime, wrong)],
  ["RawImage.save", () => new RawImage({ width: 1, height: 1, data: new Uint8Array(3) }).save("a.png", wrong)],
  ["configureWebRuntime", async () => configureWebRuntime(wrong)],
];

describe("an option that is not known", () => {
  it.each(calls)("is refused by %s", async (_, call) => {
    await expect(call()).rejects.toThrow(ArgumentError);
    await expect(call()).rejects.toThrow('has no option "sede"');
  });
});
