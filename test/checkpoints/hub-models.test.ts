import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { downloadModel } from "../../src/checkpoints/hub.ts";
import { endpointFolder } from "../../src/checkpoints/hub-cache.ts";
import { environmentVariables } from "../../src/checkpoints/hub-environment.ts";
import { listCachedModels, removeCachedModel } from "../../src/checkpoints/hub-models.ts";
import { ArgumentError, HubError } from "../../src/errors.ts";
import { embeddedModels } from "../../src/platform/embedded-node.ts";
import { halfstepHere } from "../support/cli-in-process.ts";
import { FakeHub, hubVariables } from "./hub-server.ts";

let hub: FakeHub;
let cacheDir: string;
const commits = ["a".repeat(40), "b".repeat(40)] as const;

beforeAll(async () => {
  cacheDir = await mkdtemp(join(tmpdir(), "halfstep-"));
  for (const name of hubVariables) vi.stubEnv(name, "");
  vi.stubEnv("HALFSTEP_CACHE", cacheDir);
  hub = new FakeHub();
  await hub.start();
  const get = () => downloadModel(hub.repo, { endpoint: hub.endpoint });
  hub.add("config.json", "{}");
  hub.add("model.safetensors", "x".repeat(1000));
  await get();
  hub.commit = commits[1];
  hub.add("config.json", "[1]");
  await get();
  const old = join(cacheDir, "hub/other--model");
  await mkdir(join(old, "blobs"), { recursive: true });
  await writeFile(join(old, "blobs/abc.incomplete"), "12345");
});
afterAll(async () => {
  vi.unstubAllEnvs();
  await hub.stop();
  await rm(cacheDir, { recursive: true });
});

describe("downloaded models", () => {
  it("are listed with their sizes and revisions", async () => {
    const endpoint = endpointFolder(hub.endpoint);
    expect(await listCachedModels()).toEqual([
      {
        ...{ name: "other/model", endpoint: null, path: join(cacheDir, "hub/other--model") },
        ...{ bytes: 5, incompleteBytes: 5, revisions: [] },
      },
      {
        ...{ name: "owner/model", endpoint, path: join(cacheDir, "hub", endpoint, "owner--model") },
        // 1000 bytes of weights that both share, and the two configurations
        ...{ bytes: 1000 + 2 + 3, incompleteBytes: 0 },
        revisions: expect.toSatisfy((revisions: { commit: string }[]) => {
          const sorted = [...revisions].sort((a, b) => (a.commit < b.commit ? -1 : 1));
          expect(sorted).toEqual([
            { commit: commits[0], names: [], bytes: 1002 },
            { commit: commits[1], names: ["main"], bytes: 1003 },
          ]);
          return true;
        }),
      },
    ]);
    expect(await listCachedModels(join(cacheDir, "nothing"))).toEqual([]);
  });

  it("are listed and removed by the command", async () => {
    const { stdout } = await halfstepHere("models", "--json");
    const listed = JSON.parse(stdout);
    const validate = new Ajv2020({ strictTypes: false }).compile(
      JSON.parse(await readFile("docs/json.schema.json", "utf8")),
    );
    validate(listed);
    expect(validate.errors).toBeNull();
    expect(listed.cache).toBe(cacheDir);
    expect(listed.cached.map(({ name }: { name: string }) => name)).toEqual(["other/model", "owner/model"]);
    const names = await readdir("checkpoints");
    expect(listed.embedded.map(({ name }: { name: string }) => name)).toEqual(names.sort());
    const text = (await halfstepHere("models")).stdout;
    expect(text).toMatch(/owner\/model +1.0 kB +.*main bbbbbbb.*; from 127.0.0.1/);
    expect(text).toMatch(/other\/model +5 B +cache of version 0.1; 5 B of it not whole yet/);
    expect(text).toMatch(/2 downloaded models, 1.0 kB, in /);
    const refused = await halfstepHere("models", "remove", "fluent-emoji");
    expect(refused.stderr).toMatch(/fluent-emoji comes with the package/);
    const removed = await halfstepHere("models", "remove", "other/model", "--json");
    validate(JSON.parse(removed.stdout));
    expect(validate.errors).toBeNull();
    expect(JSON.parse(removed.stdout)).toMatchObject({
      ...{ command: "models remove", event: "result" },
      removed: [{ name: "other/model", bytes: 5, path: join(cacheDir, "hub/other--model") }],
    });
    expect(await readdir(join(cacheDir, "hub"))).toEqual([endpointFolder(hub.endpoint)]);
  });

  it("are not removed while they are downloaded, and nothing else is", async () => {
    const lock = join(cacheDir, "hub", endpointFolder(hub.endpoint), "owner--model/blobs/x.lock");
    await writeFile(lock, `${hostname()} ${process.pid}`);
    const held = await removeCachedModel("owner/model").catch((error: unknown) => error);
    expect(held).toBeInstanceOf(HubError);
    await rm(lock);
    for (const name of ["owner/none", "..", "../hub", "", "owner--model"]) {
      const error = await removeCachedModel(name).catch((thrown: unknown) => thrown);
      expect(error).toBeInstanceOf(ArgumentError);
      expect((error as Error).message).toMatch(/is not in the cache .*, which has .*owner\/model/);
    }
    expect((await removeCachedModel("owner/model")).length).toBe(1);
    expect(await readdir(join(cacheDir, "hub"))).toEqual([]);
  });
});

it("the models of the package can all be opened by their names", () => {
  expect(embeddedModels().map(({ name }) => name)).toContain("fluent-emoji");
});

it("the environment's variables are in the docs, each with its meaning", async () => {
  const docs = await readFile("docs/models.md", "utf8");
  for (const { name, meaning } of environmentVariables) {
    const row = docs.split("\n").find((line) => line.replaceAll("`", "").startsWith(`| ${name} |`));
    expect(row?.replaceAll("`", ""), name).toContain(meaning);
  }
});
