/** npx vite examples/browser: a page that draws prompts, in a worker, so that it stays smooth. */
import { HalfstepError, TextToImagePipeline } from "halfstep/web";

const form = document.querySelector("form")!;
const stop = form.querySelector<HTMLButtonElement>("button[name=stop]")!;
const output = document.querySelector("output")!;
const canvas = document.querySelector("canvas")!;

const open = () =>
  TextToImagePipeline.fromPretrained("/fluent-emoji", {
    worker: true,
    onDownload: ({ loaded, total }) => {
      output.textContent = `Fetched ${(loaded / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB.`;
    },
  });
let pipe: ReturnType<typeof open> | undefined;
let controller = new AbortController();

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const prompt = String(new FormData(form).get("prompt"));
  controller.abort(); // the picture before, if it is still being drawn
  controller = new AbortController();
  const { signal } = controller;
  try {
    pipe ??= open();
    const { images, warnings } = await (await pipe)(prompt, {
      steps: 20,
      seed: 7,
      signal,
      onStep: ({ index, steps }) => {
        output.textContent = `Step ${index + 1} of ${steps}.`;
      },
    });
    images[0]!.toCanvas(canvas);
    output.textContent = ["Done.", ...warnings].join(" ");
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof HalfstepError)) throw error;
    // The next try starts anew: the network may have been gone.
    pipe = undefined;
    output.textContent = error.message;
  }
});

stop.addEventListener("click", () => {
  controller.abort();
  output.textContent = "Stopped.";
});
