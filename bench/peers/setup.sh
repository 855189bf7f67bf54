#!/usr/bin/env bash
# Makes the Python environment of the comparison with PyTorch: bench/peers/setup.sh FOLDER [options for pip install]
# PyTorch is the newest that pip finds. Where its index of CPU builds can be reached, `--index-url` with that index
# saves a download of CUDA's libraries; on the CPU both builds run the same kernels.
set -euo pipefail
folder=${1:?the folder to make the environment in}
shift
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet "$@" torch safetensors numpy diffusers
"$folder/bin/python" -c 'import torch; print("torch", torch.__version__)'
