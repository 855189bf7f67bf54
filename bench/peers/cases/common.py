"""What all reference cases share: random weights, small networks, inputs, and the record of a pipeline's run."""
import json
import math
import shutil
import sys
import zlib
from pathlib import Path

import numpy
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import torch_utils
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

fixtures = Path(__file__).resolve().parents[3] / "test" / "fixtures"
TOKENS = 20
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")

# Name of a folder: the function that writes it.
cases = {}


def case(name):
    def add(function):
        cases[name] = function
        return function

    return add


# ------------------------------------------------------------------ weights and inputs


def seeded(name):
    """Of every case its own, whatever else is made."""
    return torch.Generator().manual_seed(zlib.crc32(name.encode()))


def draw(model, name="weights"):
    """Uniform numbers for every weight: around 1 for norms, with the deviation 1/sqrt(inputs) for matrices."""
    generator = seeded(name)
    tensors = model.state_dict()
    for key in sorted(tensors):
        if not tensors[key].is_floating_point() or key == "pos_embed.pos_embed":
            continue
        shape = tensors[key].shape
        u = torch.rand(shape, generator=generator) - 0.5
        if len(shape) > 1:
            tensors[key].copy_(u * math.sqrt(12 / math.prod(shape[1:])))
        else:
            tensors[key].copy_(u * 0.5 + (1 if key.endswith(".weight") else 0))
    return model.eval()


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def picture(width, height):
    """Waves of three colours, with some grain."""
    y, x = numpy.mgrid[0:height, 0:width]
    waves = [128 + 100 * numpy.sin(x / 5 + k) * numpy.cos(y / 7 - k) for k in range(3)]
    grain = numpy.random.default_rng(width * height).integers(-20, 20, (height, width, 3))
    return Image.fromarray((numpy.stack(waves, -1) + grain).clip(0, 255).astype(numpy.uint8))


def mask(width, height):
    """White on the right, with a soft edge; grey in the first rows."""
    rows = [[min(255, max(0, (x - width // 2) * 40 + 100)) if y > 4 else 90 for x in range(width)] for y in range(height)]
    return Image.fromarray(numpy.array(rows, numpy.uint8))


# ------------------------------------------------------------------ small networks


def tokenizer(**options):
    vocab = json.loads((fixtures / "clip-tokenizer" / "vocab.json").read_text())
    merges = [tuple(line.split()) for line in (fixtures / "clip-tokenizer" / "merges.txt").read_text().splitlines()[1:]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TOKENS, **options)


def text_encoder(width, projection=None, layers=3, name="text", **config):
    vocab = json.loads((fixtures / "clip-tokenizer" / "vocab.json").read_text())
    end = vocab["<|endoftext|>"]
    made = dict(
        hidden_size=width, intermediate_size=24, num_hidden_layers=layers, num_attention_heads=2, vocab_size=len(vocab),
        max_position_embeddings=TOKENS, projection_dim=projection or width, bos_token_id=end - 1, eos_token_id=end,
        pad_token_id=end,
    )  # fmt: skip
    kind = CLIPTextModelWithProjection if projection else CLIPTextModel
    return draw(kind(CLIPTextConfig(**(made | config))), name)


def unet(width, name="unet", **config):
    made = dict(
        block_out_channels=(16, 24), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=1, attention_head_dim=2, norm_num_groups=8,
        cross_attention_dim=width, sample_size=8,
    )  # fmt: skip
    return draw(UNet2DConditionModel(**(made | config)), name)


def vae(channels=(8, 16), name="vae", **config):
    levels = len(channels)
    return draw(
        AutoencoderKL(
            block_out_channels=channels, down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels, norm_num_groups=4, sample_size=16, **config,
        ),
        name,
    )  # fmt: skip


# ------------------------------------------------------------------ what is written


def fresh(out, name):
    folder = out / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def write_tensors(path, tensors):
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{path}: {name} is not finite")
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)


def doubled(value):
    """All floats of nested arguments in float64."""
    if isinstance(value, dict):
        return {key: doubled(item) for key, item in value.items()}
    return value.double() if torch.is_tensor(value) and value.is_floating_point() else value


def write_network(out, name, model, inputs, outputs):
    """`outputs` runs the model, in float64: what is left is the error of the other side alone."""
    folder = fresh(out, name)
    model.save_pretrained(folder)
    model.double()
    with torch.no_grad():
        made = {f"output.{key}": value.float() for key, value in outputs().items()}
    write_tensors(folder / "io.safetensors", {f"input.{key}": value for key, value in inputs.items()} | made)


def write_pipeline(out, name, pipe, runs, schedulers=None, model=None):
    """
    A pipeline's folder with the runs {name: (call, tensors)}, and the schedulers that calls name. With `model`, the pipeline itself is
    elsewhere: case.json says where.
    """
    folder = fresh(out, name)
    if model is None:
        pipe.save_pretrained(folder)
    else:
        write_json(folder / "case.json", model)
    for part, scheduler in (schedulers or {}).items():
        scheduler.save_pretrained(folder / part)
    write_json(folder / "calls.json", list(runs))
    for run, (call, tensors) in runs.items():
        write_json(folder / f"call.{run}.json", call)
        write_tensors(folder / f"io.{run}.safetensors", tensors)
    return folder


# ------------------------------------------------------------------ the record of a run


def as_kind(pipe, kind, scheduler):
    """The same networks in another pipeline's class, with a scheduler of its own."""
    expected, optional = kind._get_signature_keys(kind)
    parts = {key: value for key, value in pipe.components.items() if key in expected and key != "scheduler"}
    flags = ("force_zeros_for_empty_prompt", "requires_aesthetics_score", "requires_safety_checker")
    options = {key: pipe.config[key] for key in flags if key in optional and key in pipe.config}
    made = kind(**parts, scheduler=type(scheduler).from_config(scheduler.config), **options)
    if "force_zeros_for_empty_prompt" in pipe.config:
        made.register_to_config(force_zeros_for_empty_prompt=pipe.config["force_zeros_for_empty_prompt"])
    made.set_progress_bar_config(disable=True)
    return made


class Record:
    """Everything random that diffusers draws, each prompt's embeddings, each step's latent, and what is decoded."""

    # In the order in which `encode_prompt` gives them.
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")

    def __init__(self, pipe):
        self.pipe = pipe
        self.draws, self.states, self.decoded, self.prompts = [], [], [], {}
        self.original = torch_utils.randn_tensor
        loaded = [module for name, module in sys.modules.items() if name.startswith("diffusers.")]
        self.modules = [module for module in loaded if module.__dict__.get("randn_tensor") is self.original]

    def __enter__(self):
        # Where diffusers 0.42 looks for the last norm with clip_skip; transformers 5 has it in the model itself.
        CLIPTextModel.text_model = property(lambda self: self)
        for module in self.modules:
            module.randn_tensor = self.drawing
        self.decode = self.pipe.vae.decode
        self.pipe.vae.decode = self.decoding
        encode = self.pipe.encode_prompt

        def encoding(*args, **options):
            found = encode(*args, **options)
            self.prompts |= {f"input.{key}": value.clone() for key, value in zip(self.names, found) if value is not None}
            return found

        self.pipe.encode_prompt = encoding
        return self

    def __exit__(self, *_):
        # Loading LoRAs goes by whether it is there.
        del CLIPTextModel.text_model
        for module in self.modules:
            module.randn_tensor = self.original
        self.pipe.vae.decode = self.decode

    def drawing(self, *args, **options):
        value = self.original(*args, **options)
        self.draws.append(value.clone())
        return value

    def decoding(self, *args, **options):
        found = self.decode(*args, **options)
        self.decoded.append((found[0] if isinstance(found, tuple) else found.sample).clone())
        return found

    def outputs(self, images):
        return {
            **self.prompts,
            "input.draws": torch.stack([value for value in self.draws if value.shape == self.draws[0].shape]),
            "output.timesteps": self.pipe.scheduler.timesteps,
            "output.latents_per_step": torch.stack(self.states),
            "output.latents": self.states[-1],
            "output.decoded": torch.cat(self.decoded),
            "output.image": torch.from_numpy(images),
        }

    def step(self, _pipe, _index, _timestep, values):
        self.states.append(values["latents"].clone())
        return values


def record(pipe, kind, call, scheduler, image=None, mask_image=None, **more):
    """
    Runs `call`, which is what is stored: the pipeline's arguments, `seed` or `seeds`, and the scheduler's folder. `more`: arguments
    that are not stored.
    """
    arguments = {key: value for key, value in call.items() if key not in ("seed", "seeds", "scheduler")}
    # Of JSON; diffusers adds them to tuples of its own.
    for key in arguments:
        if key.endswith(("original_size", "crops_coords_top_left", "target_size")):
            arguments[key] = tuple(arguments[key])
    made = as_kind(pipe, kind, scheduler)
    pictures = {}
    if image is not None:
        arguments["image"] = image
        pictures["input.picture"] = torch.from_numpy(numpy.array(image))
    if mask_image is not None:
        arguments["mask_image"] = mask_image
        pictures["input.mask_picture"] = torch.from_numpy(numpy.array(mask_image.convert("RGB")))
    seeds = [torch.Generator().manual_seed(seed) for seed in call.get("seeds", [call.get("seed")])]
    with Record(made) as kept, torch.no_grad():
        images = made(
            **arguments, **more, generator=seeds if "seeds" in call else seeds[0], output_type="np",
            callback_on_step_end=kept.step,
        ).images  # fmt: skip
    tensors = kept.outputs(images) | pictures
    if image is not None:
        sizes = {key: arguments[key] for key in ("height", "width") if key in arguments}
        tensors["input.image"] = made.image_processor.preprocess(image, **sizes)
        if mask_image is not None:
            tensors["input.mask"] = made.mask_processor.preprocess(mask_image, **sizes)
    return call, tensors
