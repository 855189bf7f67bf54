/** What publint and "Are the types wrong?" have to say of the packed package: nothing. */
import { join } from "node:path";
import { inject, it } from "vitest";
import { run } from "./run.ts";

const project = inject("project");
const tarball = inject("tarball");
const bin = (name: string) => join(project, "node_modules/.bin", name);

it("publint has nothing to suggest", async () => {
  await run(bin("publint"), ["run", tarball, "--strict"], { cwd: project });
});

it("its types are found wherever its code is, by Node's rules and by bundlers'", async () => {
  // The package is ESM alone: Node from 20.19 on can require() it too.
  await run(bin("attw"), [tarball, "--profile", "esm-only", "--no-color"], { cwd: project });
});
