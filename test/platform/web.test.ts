import { describe, expect, it } from "vitest";
import { CachingFolder } from "../../src/checkpoints/web-cache.ts";
import { ArgumentError } from "../../src/errors.ts";
import { platform } from "../../src/platform/web.ts";

describe("names of models in a browser", () => {
  it.each([
    ["https://example.com/models/x/", "https://example.com/models/x"],
    ["/models/fluent-emoji", "/models/fluent-emoji"],
    ["./models/fluent-emoji/", "./models/fluent-emoji"],
    ["../x", "../x"],
    ["./x", "./x"],
    ["models/x/", "models/x"],
    ["PixArt-alpha/PixArt-XL-2", "https://huggingface.co/PixArt-alpha/PixArt-XL-2/resolve/main"],
  ])("%s is at %s", async (name, url) => {
    const folder = await platform.resolveModel(name);
    expect(folder).toBeInstanceOf(CachingFolder);
    expect(folder.name).toBe(url);
  });

  it("on the Hub may have a revision", async () => {
    const { name } = await platform.resolveModel("owner/name", { revision: "refs/pr/1" });
    expect(name).toBe("https://huggingface.co/owner/name/resolve/refs%2Fpr%2F1");
  });

  it("without a place are refused, with what to do instead", async () => {
    const failed = platform.resolveModel("fluent-emoji");
    await expect(failed).rejects.toThrow(ArgumentError);
    await expect(failed).rejects.toThrow("node_modules/halfstep/checkpoints");
  });
});
