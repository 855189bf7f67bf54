import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { downloadModel } from "../checkpoints/hub.ts";
import { NodeFolder } from "../checkpoints/node.ts";
import { ArgumentError } from "../errors.ts";
import { nodeRuntime } from "../runtime/node.ts";
import type { Platform, ResolveOptions } from "./platform.ts";

/** Models that come with the package, in its folder `checkpoints`, seen from src/platform/ and from dist/. */
const embedded = ["../../checkpoints/", "../checkpoints/"].map((path) => fileURLToPath(new URL(path, import.meta.url)));

async function resolveModel(name: string, { revision, variant, signal, onDownload }: ResolveOptions = {}) {
  for (const folder of embedded) {
    if (/^[\w.-]+$/.test(name) && existsSync(`${folder}${name}/model_index.json`))
      return new NodeFolder(folder + name, name);
  }
  if (existsSync(name)) return new NodeFolder(name);
  if (/^[\w.-]+\/[\w.-]+$/.test(name)) {
    return downloadModel(name, {
      ...(revision ? { revision } : {}),
      ...(variant ? { variant } : {}),
      ...(signal ? { signal } : {}),
      ...(onDownload ? { onProgress: onDownload } : {}),
    });
  }
  throw new ArgumentError(
    `There is no model "${name}": it is not an embedded model (fluent-emoji), no folder on disk, and no Hub id (owner/name).`,
  );
}

export const platform: Platform = { runtime: nodeRuntime, resolveModel };
