"""DiT (Peebles & Xie 2023) in plain PyTorch, for comparison: the same folder, the same inputs, the same numbers.

    dit.py FOLDER INPUTS.json THREADS [--compile]
"""

import json
import math
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file
from serve import read_inputs, serve


class Embedding(nn.Module):
    """Timestep and class as one vector; diffusers' CombinedTimestepLabelEmbeddings."""

    def __init__(self, classes, width):
        super().__init__()
        self.timestep_embedder = nn.ModuleDict({"linear_1": nn.Linear(256, width), "linear_2": nn.Linear(width, width)})
        self.class_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(classes + 1, width)})
        frequencies = torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float32) / 127)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, timestep, labels):
        angles = timestep[:, None] * self.frequencies
        layers = self.timestep_embedder
        time_vector = layers["linear_2"](F.silu(layers["linear_1"](torch.cat([angles.cos(), angles.sin()], -1))))
        return time_vector + self.class_embedder["embedding_table"](labels)


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.to_q, self.to_k, self.to_v))
        return self.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, config, width):
        super().__init__()
        self.eps = config["norm_eps"]
        embedding = Embedding(config["num_embeds_ada_norm"], width)
        self.norm1 = nn.ModuleDict({"emb": embedding, "linear": nn.Linear(width, 6 * width)})
        self.attn1 = Attention(width, config["num_attention_heads"])
        net = [nn.ModuleDict({"proj": nn.Linear(width, 4 * width)}), nn.Identity(), nn.Linear(4 * width, width)]
        self.ff = nn.ModuleDict({"net": nn.ModuleList(net)})

    def forward(self, x, timestep, labels):
        modulation = self.norm1["linear"](F.silu(self.norm1["emb"](timestep, labels)))
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation[:, None].chunk(6, dim=-1)
        width = x.shape[-1:]
        x = x + gate1 * self.attn1(F.layer_norm(x, width, eps=1e-6) * (1 + scale1) + shift1)
        inner = F.layer_norm(x, width, eps=self.eps) * (1 + scale2) + shift2
        net = self.ff["net"]
        return x + gate2 * net[2](F.gelu(net[0]["proj"](inner), approximate="tanh"))


class DiT(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config["num_attention_heads"] * config["attention_head_dim"]
        self.patch, self.out_channels = config["patch_size"], config["out_channels"]
        self.rows = config["sample_size"] // self.patch
        projection = nn.Conv2d(config["in_channels"], width, self.patch, stride=self.patch)
        self.pos_embed = nn.ModuleDict({"proj": projection})
        self.register_buffer("positions", position_table(self.rows, width), persistent=False)
        self.transformer_blocks = nn.ModuleList([Block(config, width) for _ in range(config["num_layers"])])
        self.proj_out_1 = nn.Linear(width, 2 * width)
        self.proj_out_2 = nn.Linear(width, self.patch**2 * self.out_channels)

    def forward(self, latent, timestep, labels):
        x = self.pos_embed["proj"](latent).flatten(2).transpose(1, 2) + self.positions
        for block in self.transformer_blocks:
            x = block(x, timestep, labels)
        condition = self.transformer_blocks[0].norm1["emb"](timestep, labels)
        shift, scale = self.proj_out_1(F.silu(condition))[:, None].chunk(2, dim=-1)
        x = self.proj_out_2(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift)
        x = x.unflatten(1, (self.rows, self.rows)).unflatten(-1, (self.patch, self.patch, self.out_channels))
        return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def position_table(rows, width):
    frequencies = 10000 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(rows, dtype=torch.float64)[:, None] * frequencies
    sines = torch.cat([angles.sin(), angles.cos()], -1).float()
    column, row = sines[None].expand(rows, -1, -1), sines[:, None].expand(-1, rows, -1)
    return torch.cat([column, row], -1).reshape(1, rows * rows, width)


def main():
    folder, inputs, threads = sys.argv[1:4]
    compiled = "--compile" in sys.argv
    torch.set_num_threads(int(threads))
    torch.set_grad_enabled(False)
    with open(f"{folder}/config.json") as file:
        config = json.load(file)
    with torch.device("meta"):
        model = DiT(config)
    # Buffers are made anew: on the meta device they have no values.
    weights = load_file(f"{folder}/diffusion_pytorch_model.safetensors")
    model.load_state_dict(weights, assign=True, strict=True)
    model.positions = position_table(model.rows, model.positions.shape[-1])
    for block in model.transformer_blocks:
        frequencies = torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float32) / 127)
        block.norm1["emb"].frequencies = frequencies
    model.eval()
    given = read_inputs(inputs)
    arguments = (given["hiddenStates"], given["timestep"], given["classLabels"])
    if compiled:
        # Freezing lets the compiler repack the weights, as ONNX Runtime does.
        import torch._inductor.config as inductor

        inductor.freezing = True
        model = torch.compile(model)
    serve(lambda: model(*arguments))


if __name__ == "__main__":
    main()
