"""diffusers' UNet of Stable Diffusion on PyTorch, for comparison: the same folder, the same inputs, the same numbers.

    unet.py FOLDER INPUTS.json THREADS [--channels-last]
"""

import sys

import diffusers
import torch
from serve import read_inputs, serve


def main():
    folder, inputs, threads = sys.argv[1:4]
    torch.set_num_threads(int(threads))
    torch.set_grad_enabled(False)
    model = diffusers.UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32).eval()
    given = read_inputs(inputs)
    sample = given["sample"]
    if "--channels-last" in sys.argv:
        model = model.to(memory_format=torch.channels_last)
        sample = sample.contiguous(memory_format=torch.channels_last)
    serve(lambda: model(sample, given["timestep"], given["encoderHiddenStates"], return_dict=False)[0])


if __name__ == "__main__":
    main()
