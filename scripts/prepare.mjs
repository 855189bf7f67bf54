/** After `npm ci` in a clone: builds, and makes `npx halfstep` work there as it does where halfstep is a dependency. */
import { execSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";

// Installed without what it is built with: there is nothing to do, and nothing wrong.
if (existsSync("node_modules/vite")) {
  execSync("npm run build", { stdio: "inherit" });
  chmodSync("dist/cli.js", 0o755);
  const link = "node_modules/.bin/halfstep";
  mkdirSync("node_modules/.bin", { recursive: true });
  if (process.platform === "win32") {
    writeFileSync(`${link}.cmd`, '@node "%~dp0\\..\\..\\dist\\cli.js" %*\r\n');
  } else {
    rmSync(link, { force: true });
    symlinkSync("../../dist/cli.js", link);
  }
}
