import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

/** HALFSTEP_CHROMIUM, or where Debian and others put it. */
export async function launchChromium(args: readonly string[] = []): Promise<Browser> {
  const places = [process.env["HALFSTEP_CHROMIUM"], "/usr/bin/chromium", "/usr/bin/chromium-browser"];
  const executablePath = places.find((path) => path && existsSync(path));
  if (!executablePath) {
    throw new Error("There is no Chromium: install Debian's package chromium, or set HALFSTEP_CHROMIUM to its path.");
  }
  // The sandbox cannot be set up by root, as who continuous integration often runs; only our own page is opened.
  return chromium.launch({ executablePath, args: ["--no-sandbox", ...args] });
}
