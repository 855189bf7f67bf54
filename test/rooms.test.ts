import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, normalize } from "node:path/posix";
import { describe, expect, it } from "vitest";

/**
 * The rooms of src/ and what each may import, types counted. Every room is below those that import it, so the list is in order:
 * a room's names stand further up. A new arrow is a decision: write it down here.
 */
const rooms: Readonly<Record<string, string>> = {
  errors: "",
  checks: "errors",
  tensor: "errors",
  callable: "",
  options: "checks errors",
  // Reinforcement learning stands alone.
  "exploration/mdp": "checks errors",
  "exploration/bounds": "checks errors exploration/mdp",
  "exploration/learners": "checks errors exploration/bounds exploration/mdp",
  exploration: "checks errors exploration/bounds exploration/learners exploration/mdp",
  graph: "errors tensor",
  schedulers: "errors tensor",
  runtime: "checks errors graph options tensor",
  checkpoints: "checks errors options tensor",
  media: "checks errors options tensor",
  platform: "checks checkpoints errors options runtime",
  tokenizers: "checks checkpoints errors",
  models: "checkpoints errors graph runtime tensor",
  sampling: "checks errors models options schedulers tensor",
  training: "checkpoints errors graph runtime tensor",
  init: "checkpoints models sampling tensor",
  caching: "errors models sampling tensor",
  ilf: "caching checkpoints errors graph models runtime sampling tensor",
  "ilf/training": "caching checkpoints errors graph ilf models runtime sampling schedulers tensor training",
  streamlined: "checks errors graph models runtime sampling tensor",
  worker: "callable errors media options platform",
  components:
    "checkpoints checks errors media models options platform runtime sampling schedulers streamlined tensor tokenizers worker",
  acceleration:
    "caching checkpoints checks components errors graph ilf models options runtime sampling streamlined tensor",
  pipelines:
    "acceleration callable checkpoints checks components errors ilf ilf/training media models options platform runtime " +
    "sampling schedulers streamlined tensor tokenizers training worker",
  "worker/host": "errors pipelines platform sampling worker",
  metrics: "checkpoints checks components errors media models options runtime sampling tensor",
  verify:
    "checkpoints checks components errors graph media models options pipelines runtime sampling schedulers tensor",
  portable:
    "acceleration caching checkpoints checks components errors graph ilf media metrics models pipelines platform runtime " +
    "sampling schedulers streamlined tensor verify worker",
  index: "checkpoints media platform portable runtime",
  web: "checkpoints portable runtime",
  // Not in dist/ as a library: it may use anything.
  cli: "*",
};

const src = new URL("../src/", import.meta.url);
const files = readdirSync(src, { recursive: true, encoding: "utf8" })
  .map((name) => name.replaceAll("\\", "/"))
  .filter((name) => name.endsWith(".ts"));

/** What package.json's "imports" stand for. */
const named: Readonly<Record<string, { node: string; browser: string }>> = Object.fromEntries(
  Object.entries(JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8")).imports).map(
    ([name, value]) => {
      const { default: node, browser } = value as { default: string; browser: string };
      return [name, { node: node.slice("./src/".length), browser: browser.slice("./src/".length) }];
    },
  ),
);

/** Every module that a file names: `import`, `export from`, `import()`, types too. */
function importsOf(file: string): string[] {
  const text = readFileSync(new URL(file, src), "utf8");
  const named = /^(?:import|export)\b[^;"'()]*? from "([^"]+)"|^import "([^"]+)"|\bimport\("([^"]+)"\)/gm;
  return [...text.matchAll(named)].map(([, ...names]) => names.find((name) => name !== undefined)!);
}

/** Files of src/ that a file imports. */
const ownImports = new Map(
  files.map((file) => [
    file,
    importsOf(file).flatMap((name) => {
      if (name.startsWith(".")) return [normalize(join(dirname(file), name))];
      const { node, browser } = Object.hasOwn(named, name) ? named[name]! : { node: "", browser: "" };
      return [node, browser].filter(Boolean);
    }),
  ]),
);

function roomOf(file: string): string {
  const folder = dirname(file);
  if (folder === ".") return basename(file, ".ts");
  const [one, two] = folder.split("/");
  return two !== undefined && Object.hasOwn(rooms, `${one}/${two}`) ? `${one}/${two}` : one!;
}

describe("the rooms of src/", () => {
  it("import only what the list allows, and all that it allows", () => {
    const used = new Map(Object.keys(rooms).map((room) => [room, new Set<string>()]));
    for (const [file, imports] of ownImports) {
      for (const imported of imports) {
        if (!imported.startsWith("../")) used.get(roomOf(file))?.add(roomOf(imported));
      }
    }
    const listed = Object.entries(rooms).filter(([, allowed]) => allowed !== "*");
    const sorted = (names: Iterable<string>) => [...names].filter(Boolean).sort().join(" ");
    const actual = listed.map(([room]) => [room, sorted([...used.get(room)!].filter((name) => name !== room))]);
    expect(Object.fromEntries(actual)).toEqual(
      Object.fromEntries(listed.map(([room, allowed]) => [room, sorted(allowed.split(" "))])),
    );
    expect([...new Set(files.map(roomOf))].filter((room) => !Object.hasOwn(rooms, room))).toEqual([]);
  });

  it("stand in order: each imports only rooms above it in the list", () => {
    const order = Object.keys(rooms);
    const wrong = order.flatMap((room, place) =>
      rooms[room]!.split(" ")
        .filter((name) => name !== "" && name !== "*" && !(order.indexOf(name) < place && order.includes(name)))
        .map((name) => `${room} imports ${name}`),
    );
    expect(wrong).toEqual([]);
  });

  it("have no circle of files, types counted", () => {
    expect(circles()).toEqual([]);
  });

  it("use Node's modules only in files that say so", () => {
    const ofNode = /^(cli\/|init\/)|(^|\/)node\.ts$|-node\.ts$|^checkpoints\/hub[a-z-]*\.ts$|^index\.ts$/;
    const wrong = files.filter(
      (file) => importsOf(file).some((name) => name.startsWith("node:")) && !ofNode.test(file),
    );
    expect(wrong).toEqual([]);
  });
});

/** Groups of files that import each other, directly or not (Tarjan 1972). */
function circles(): string[][] {
  const found: string[][] = [];
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const stack: string[] = [];
  const visit = (file: string): void => {
    index.set(file, index.size);
    low.set(file, index.get(file)!);
    stack.push(file);
    for (const next of ownImports.get(file) ?? []) {
      if (!index.has(next)) visit(next);
      if (stack.includes(next)) low.set(file, Math.min(low.get(file)!, low.get(next)!));
    }
    if (low.get(file) !== index.get(file)) return;
    const group = stack.splice(stack.indexOf(file));
    if (group.length > 1) found.push(group.sort());
  };
  for (const file of files) if (!index.has(file)) visit(file);
  return found;
}
