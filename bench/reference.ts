/** How far halfstep is from diffusers: every case of reference vectors in test/fixtures, as `halfstep verify` compares them. */
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import type { RawConfig } from "../src/checkpoints/diffusers-folder.ts";
import { NodeFolder } from "../src/checkpoints/node.ts";
import { writeSafetensors } from "../src/checkpoints/safetensors-node.ts";
import { networksOf } from "../src/models/registry.ts";
import { nodeRuntime } from "../src/runtime/node.ts";
import { verifyFolder } from "../src/verify/verify-folder.ts";
import { drawWeights } from "../test/support/drawn.ts";
import type { Bench } from "./bench.ts";
import { root } from "./result.ts";
import { formatted, numbers, words } from "./table.ts";

const fixtures = join(root, "test", "fixtures");

interface Family {
  readonly id: string;
  readonly name: string;
  /** Folders under test/fixtures; with /* all that are in one. */
  readonly folders: readonly string[];
  readonly allowed: number;
}

const families: readonly Family[] = [
  { id: "dit", name: "DiT", folders: ["dit"], allowed: 1e-4 },
  { id: "pixart", name: "PixArt (alpha, sigma)", folders: ["pixart-alpha", "pixart-sigma"], allowed: 1e-4 },
  { id: "vae", name: "AutoencoderKL", folders: ["vae"], allowed: 1e-4 },
  { id: "t5", name: "T5 encoder", folders: ["t5"], allowed: 1e-4 },
  { id: "clip", name: "CLIP text, CLIP vision", folders: ["clip-text", "clip-text-eos", "clip-vision"], allowed: 1e-4 },
  {
    id: "unets",
    name: "UNets of Stable Diffusion, AnimateDiff, Stable Video Diffusion",
    folders: ["unet-2d", "unet-2d-linear", "unet-motion", "unet-svd"],
    allowed: 1e-4,
  },
  { id: "vae-temporal", name: "AutoencoderKLTemporalDecoder", folders: ["vae-temporal"], allowed: 1e-4 },
  { id: "settings", name: "other settings of these classes", folders: ["models-0.42/*"], allowed: 1e-4 },
  { id: "schedulers", name: "schedulers", folders: ["schedulers/*"], allowed: 1e-4 },
  {
    id: "images",
    name: "whole runs of DiT and PixArt",
    folders: ["pipelines/dit", "pipelines/pixart-sigma"],
    allowed: 1e-3,
  },
  {
    id: "videos",
    name: "whole runs of AnimateDiff and Stable Video Diffusion",
    folders: ["pipelines/animatediff", "pipelines/svd"],
    allowed: 1e-3,
  },
  { id: "noise", name: "`torch.randn`, absolute", folders: ["rng"], allowed: 1e-6 },
];

export const reference: Bench = {
  name: "reference",
  summary: "every model, scheduler and pipeline against reference vectors of diffusers",
  time: "1 min",
  async *run() {
    const scratch = await mkdtemp(join(tmpdir(), "halfstep-reference-"));
    try {
      for (const { id, name, folders, allowed } of families) {
        let [cases, error] = [0, 0];
        for (const pattern of folders) {
          for (const path of await expanded(pattern)) {
            const errors = await errorsOf(path, scratch);
            cases += id === "noise" ? errors.length : await recordedRuns(path);
            error = Math.max(error, ...errors);
          }
        }
        yield { id, name, cases, error, allowed };
      }
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  },
  tables: {
    all: {
      columns: [
        words("", "name"),
        numbers("cases", "cases", "0"),
        numbers("largest error", "error", "1e"),
        ["allowed", ({ allowed }) => formatted(allowed, "0e")],
      ],
    },
  },
};

async function expanded(pattern: string): Promise<string[]> {
  if (!pattern.endsWith("/*")) return [join(fixtures, pattern)];
  const folder = join(fixtures, pattern.slice(0, -2));
  return (await readdir(folder)).sort().map((name) => join(folder, name));
}

async function errorsOf(path: string, scratch: string): Promise<number[]> {
  const folder = await withWeights(path, scratch);
  const { outputs, class: className } = await verifyFolder(new NodeFolder(folder, basename(path)), nodeRuntime);
  const absolute = className === "TorchGenerator";
  return outputs.map(({ maxAbs, relative }) => (absolute ? maxAbs : relative));
}

/** A folder may hold several runs of one pipeline, "io.ddim.safetensors" and "io.dpmpp.safetensors". */
const recordedRuns = async (path: string) =>
  (await readdir(path)).filter((name) => /^io\b.*safetensors$/.test(name)).length;

/** The folder itself, or a copy with the weights that the fixture does not store and both sides draw. */
async function withWeights(path: string, scratch: string): Promise<string> {
  const lacking = await withoutWeights(path);
  if (lacking.length === 0) return path;
  const copy = await mkdtemp(join(scratch, "case-"));
  await cp(path, copy, { recursive: true });
  for (const part of lacking) {
    const folder = join(copy, part);
    const raw = JSON.parse(await readFile(join(folder, "config.json"), "utf8")) as RawConfig;
    await writeSafetensors(join(folder, "model.safetensors"), drawWeights(raw));
  }
  const files = await readdir(join(copy, "tokenizer")).catch(() => null);
  if (files && !files.some((name) => name === "vocab.json" || name === "tokenizer.json")) {
    for (const name of ["vocab.json", "merges.txt"]) {
      await writeFile(join(copy, "tokenizer", name), await readFile(join(fixtures, "clip-tokenizer", name)));
    }
  }
  return copy;
}

/** Folders in it with a network's configuration and nothing else. */
async function withoutWeights(path: string): Promise<string[]> {
  const found: string[] = [];
  const entries = await readdir(path, { recursive: true });
  for (const entry of entries.filter((name) => basename(name) === "config.json")) {
    const part = dirname(entry);
    const beside = await readdir(join(path, part));
    const raw = JSON.parse(await readFile(join(path, entry), "utf8")) as RawConfig;
    if (
      raw["generator"] !== undefined ||
      beside.some((name) => /^(diffusion_pytorch_)?model\..*safetensors/.test(name))
    )
      continue;
    if (Object.keys(networksOf(raw)).length > 0) found.push(part);
  }
  return found;
}
