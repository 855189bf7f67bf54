"""
Makes reference cases for `halfstep verify` with diffusers: small networks with random weights, and what diffusers gives for them.

    bench/peers/setup.sh ENVIRONMENT -r bench/peers/cases/requirements.txt
    ENVIRONMENT/bin/python bench/peers/cases OUT [--only WORD]...
    halfstep verify OUT --markdown

Each case is a folder that `halfstep verify` takes: a network with io.safetensors, a pipeline with calls.json, call.NAME.json and
io.NAME.safetensors for each run, and case.json where it is about LoRAs, a single file, or a refusal. Weights, noise, images and
prompts come from fixed seeds, so that the same versions write the same numbers. It prints what it wrote.
"""
import argparse
import importlib.metadata
import json
import platform
import time
import traceback
import warnings
from pathlib import Path

import diffusers
import torch
import transformers
from common import cases

VERSIONS = ["diffusers", "transformers", "torch", "peft", "accelerate", "safetensors", "numpy", "scipy", "pillow", "gguf"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", action="append", metavar="WORD", help="only cases with this in their name")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    # Networks this small are slower with more, and sums are in one order.
    torch.set_num_threads(1)
    for library in (diffusers, transformers):
        library.logging.set_verbosity_error()
        library.logging.disable_progress_bar()

    # Each adds its cases.
    import adapters, files, networks, pixart, schedulers, sd3, stills  # noqa: E401, F401

    options.out.mkdir(parents=True, exist_ok=True)
    started = time.time()
    written, runs, failed = 0, 0, []
    for name, make in sorted(cases.items()):
        if options.only and not any(word in name for word in options.only):
            continue
        try:
            make(options.out, name)
        except Exception:  # One case must not keep the others from being made.
            traceback.print_exc()
            failed.append(name)
            continue
        folder = options.out / name
        calls = folder / "calls.json"
        count = len(json.loads(calls.read_text())) if calls.exists() else 1
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"{name}: {count} {'run' if count == 1 else 'runs'}, {size / 1e6:.2f} MB", flush=True)
        written, runs = written + 1, runs + count
    versions = {name: importlib.metadata.version(name) for name in VERSIONS} | {"python": platform.python_version()}
    (options.out / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")
    print(f"{written} folders with {runs} runs in {time.time() - started:.0f} s; {versions}")
    if failed:
        raise SystemExit(f"not made: {', '.join(failed)}")


if __name__ == "__main__":
    main()
