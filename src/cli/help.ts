/** The text below the options in --help: examples and environment variables. */
import { type EnvironmentVariable, environmentVariables } from "../checkpoints/hub-environment.ts";

const lines = new Map<string, readonly string[]>([
  [
    "",
    [
      'halfstep generate "a red apple"',
      'halfstep generate "a castle at dusk" --model PixArt-alpha/PixArt-XL-2-512x512 --out castle.jpg',
      'halfstep animate "a beating heart" --out heart.gif',
      "halfstep info FOLDER",
    ],
  ],
  [
    "generate",
    [
      'halfstep generate "a red apple" --seed 7',
      'halfstep generate "a red apple" --count 4 --out apples.webp     # and apples-sheet.webp',
      "halfstep generate --prompts prompts.txt --steps 30",
      'halfstep generate "a red apple" --out - | display               # PNG to another program',
      "halfstep generate --class 207 360 --model facebook/DiT-XL-2-256",
      'halfstep generate -- "-1 degree"                                # a prompt that begins with -',
    ],
  ],
  [
    "animate",
    [
      'halfstep animate "a beating heart" --out heart.gif',
      "halfstep animate --prompts prompts.txt --count 2 --seed 7       # out-1.gif, out-2.gif, ...",
      'halfstep animate "a cat" --model stable-diffusion-v1-5/stable-diffusion-v1-5 \\',
      "  --adapter guoyww/animatediff-motion-adapter-v1-5-2 --out cat.mp4",
      "halfstep animate --image cat.jpg --model stabilityai/stable-video-diffusion-img2vid --out cat.mp4",
      'halfstep animate "a cat" --model FOLDER --memory 2.5GB --accelerate rehash',
      'halfstep animate "a cat" --model FOLDER --lora zoom-in.safetensors:0.8 --lora style.safetensors',
    ],
  ],
  ["models remove", ["halfstep models remove PixArt-alpha/PixArt-XL-2-512x512"]],
  ["verify", ["halfstep verify FOLDER", "halfstep verify FOLDER --blocks    # where two implementations part"]],
  ["info", ["halfstep info fluent-emoji", "halfstep info PixArt-alpha/PixArt-XL-2-512x512 --json"]],
  ["models", ["halfstep models", "halfstep models remove owner/name"]],
  ["models list", ["halfstep models", "halfstep models list --json"]],
  ["models remove", ["halfstep models remove owner/name"]],
  [
    "convert",
    ["halfstep convert model.safetensors --out FOLDER", "halfstep convert model.safetensors --out FOLDER --dtype fp16"],
  ],
  ["init", ["halfstep init dit-xl-2 --out dit", "halfstep init sd-1.5 --out unet --dtype fp16"]],
  [
    "distill",
    ["halfstep distill FOLDER --captions prompts.txt --out FOLDER/ilf", "halfstep distill FOLDER --minutes 30"],
  ],
  ["eval", ["halfstep eval fluent-emoji", "halfstep eval FOLDER --samples 64 --json"]],
  ["rehash-profile", ["halfstep rehash-profile fluent-emoji-motion --steps 25 --full 13"]],
  ["bench ilf", ["halfstep bench ilf --samples 64", "halfstep bench ilf --geometry dit-xl-2"]],
  [
    "bench streamlined",
    ["halfstep bench streamlined --budgets 2GB,6GB", "halfstep bench streamlined --model fluent-emoji-motion"],
  ],
  ["explore run", ["halfstep explore run --env random --episodes 1000 --out runs"]],
  ["explore decide", ["halfstep explore decide --state state.json --json"]],
  [
    "completion",
    [
      'bash: eval "$(halfstep completion bash)"                                    # in ~/.bashrc',
      'zsh:  eval "$(halfstep completion zsh)"                                     # in ~/.zshrc, after compinit',
      "fish: halfstep completion fish > ~/.config/fish/completions/halfstep.fish",
    ],
  ],
]);

/** Examples of the command with these names. */
export function examples(path: readonly string[]): string {
  const own = lines.get(path.join(" "));
  return own ? `\nExamples:\n${own.map((line) => `  ${line}`).join("\n")}\n` : "";
}

/** Environment variables that commands read. */
export const environment: readonly EnvironmentVariable[] = [
  ...environmentVariables,
  { name: "HALFSTEP_DEBUG", meaning: "1: errors with the place in the code" },
];

/** Longer names have a line of their own. */
const COLUMN = 16;

export function environmentHelp(): string {
  const lines = environment.map(({ name, meaning }) =>
    name.length > COLUMN ? `  ${name}\n  ${"".padEnd(COLUMN)}${meaning}` : `  ${name.padEnd(COLUMN)}${meaning}`,
  );
  return `\nEnvironment:\n${lines.join("\n")}\n`;
}
