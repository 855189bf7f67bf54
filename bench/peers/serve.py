"""What the networks of this folder have in common: inputs from a file, and answers to commands, one JSON line each.

`run` times one forward pass, `save FILE` writes its output as raw float32. Every answer has the process's peak memory in bytes.
"""

import json
import resource
import sys
import time

import torch


def read_inputs(path):
    """Tensors by name."""
    with open(path) as file:
        given = json.load(file)
    return {
        name: torch.tensor(given["values"][name], dtype=getattr(torch, dtype)).reshape(shape)
        for name, (dtype, shape) in given["types"].items()
    }


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def serve(forward):
    """`forward` computes the output from inputs that it keeps."""
    with torch.inference_mode():
        start = time.perf_counter()
        forward()
        first = time.perf_counter() - start
        ready = {"version": torch.__version__, "threads": torch.get_num_threads(), "first": first, "peak": peak()}
        print(json.dumps(ready), flush=True)
        for line in sys.stdin:
            command, *rest = line.split(maxsplit=1)
            start = time.perf_counter()
            result = forward()
            answer = {"ms": (time.perf_counter() - start) * 1000, "peak": peak()}
            if command == "save":
                with open(rest[0].strip(), "wb") as file:
                    file.write(result.contiguous().numpy().tobytes())
            print(json.dumps(answer), flush=True)
