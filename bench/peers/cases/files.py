"""
Checkpoints in one file in the original layout, by the conversion that diffusers' `from_single_file` makes of them. Prompts need CLIP's vocabulary, which
the package open_clip_torch brings.
"""
import gzip
import importlib.util
import sys
import tempfile
from pathlib import Path

import gguf
import numpy
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)
from safetensors.torch import save_file
from transformers import CLIPTokenizer

from adapters import kohya_file, text_layers, unet_layers
from common import SD, case, fixtures, mask, picture, record, write_pipeline

sys.path.insert(0, str(fixtures / "single-files"))
import make as layout  # noqa: E402

shared = dict(clip_sample=False, set_alpha_to_one=False, steps_offset=1)
pndm = PNDMScheduler(**SD, skip_prk_steps=True, set_alpha_to_one=False, steps_offset=1)
ddim_v = DDIMScheduler(**SD, **shared, prediction_type="v_prediction")
ddim = DDIMScheduler(**SD, **shared)
euler = EulerDiscreteScheduler(**SD, timestep_spacing="leading", steps_offset=1)
VOCABULARY = 49408


def clip_tokenizer(pad):
    package = importlib.util.find_spec("open_clip")
    if package is None:
        raise SystemExit("CLIP's vocabulary comes from the package open_clip_torch, which is not installed.")
    path = Path(next(iter(package.submodule_search_locations))) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.open(path).read().decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    # In the order of the published vocabulary: printable bytes first.
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(line.split()) for line in lines)]
    vocab = {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    merges = [tuple(line.split()) for line in lines]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77, pad_token=pad)


tiny = dict(vae_channels=(32, 64), vocabulary=VOCABULARY, layers=1)
clip_l = layout.clip_l
families = {
    "sd1": lambda **more: layout.family("sd1", (32, 64), (1, 0), 16, linear=False, heads=8, **tiny, **more,
                                        texts={"text_encoder": clip_l("cond_stage_model.transformer.", 16, 2)}),
    "sd2": lambda **more: layout.family("sd2", (32, 64), (1, 0), 64, **tiny, **more,
                                        texts={"text_encoder": ("cond_stage_model.model.", 64, 3, "gelu", 64, 1, False)}),
    "sdxl": lambda **more: layout.family("sdxl", (32, 64), (0, 2), 40, added=6 * 256 + 24, **tiny, **more,
                                         texts={"text_encoder": clip_l("conditioner.embedders.0.transformer.", 16, 2),
                                                "text_encoder_2": ("conditioner.embedders.1.model.", 24, 3, "gelu", 24, 0, True)}),
}  # fmt: skip


def opened(kind, pipeline, parts, scheduler, weights):
    """The pipeline of a file, by diffusers' own conversion of each part."""
    models = {}
    for component, (meta, prefix, _) in parts.items():
        text = "text" in component
        model = type(meta)(meta.config) if text else type(meta).from_config(meta.config)
        made = layout.convert(component, meta, prefix, weights)
        model.load_state_dict({key: made[layout.plain(key) if text else key].float() for key in model.state_dict()})
        models[component] = model.eval()
    if kind == "sdxl":
        models["vae"].register_to_config(scaling_factor=0.13025)
        more = dict(tokenizer_2=clip_tokenizer("!"), add_watermarker=False)
    else:
        more = dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    return pipeline(**models, **more, tokenizer=clip_tokenizer("!" if kind == "sd2" else "<|endoftext|>"), scheduler=scheduler)


def write_gguf(path, weights):
    """Matrices whose rows are whole blocks in Q8_0, other matrices in F16; what a reader gets of them."""
    writer, read = gguf.GGUFWriter(path, "diffusion"), {}
    for name, value in weights.items():
        array = value.numpy()
        if array.ndim == 2 and array.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
        elif array.ndim > 1:
            kind = gguf.GGMLQuantizationType.F16
        else:
            kind = gguf.GGMLQuantizationType.F32
        stored = gguf.quants.quantize(array, kind)
        # What F16 and F32 arrays are, they say by themselves.
        writer.add_tensor(name, stored, raw_dtype=kind if kind == gguf.GGMLQuantizationType.Q8_0 else None)
        read[name] = torch.from_numpy(gguf.quants.dequantize(stored, kind).astype(numpy.float32)).reshape(value.shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read


def single(
    out, name, kind, pipeline, scheduler, *, dtype=torch.float32, as_gguf=False, metadata=None, pictures=None, family=None, lora=None
):
    parts = families[kind](**(family or {}))
    shapes = {prefix + key: shape for _, prefix, names in parts.values() for key, shape in names}
    weights = {key: value.to(dtype).contiguous() for key, value in layout.draw(shapes).items()}
    prompt = dict(prompt="a smiling cat with heart eyes", negative_prompt="the red house, 3D render")
    call = dict(**prompt, guidance_scale=5.0, num_inference_steps=5, height=32, width=48, seed=11)
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / ("model.gguf" if as_gguf else "model.safetensors")
        if as_gguf:
            weights = write_gguf(file, weights)
        else:
            save_file(weights, file, metadata=metadata)
        pipe = opened(kind, pipeline, parts, scheduler, weights)
        settings = dict(model=file.name)
        if lora:
            kohya_file(Path(temporary) / "lora.safetensors", pipe, lora, name)
            pipe.load_lora_weights(str(Path(temporary) / "lora.safetensors"), adapter_name="lora")
            pipe.set_adapters(["lora"], [0.7])
            settings["loras"] = [dict(file="lora.safetensors", scale=0.7)]
        run = record(pipe, pipeline, call, scheduler, **(pictures or {}))
        folder = write_pipeline(out, name, pipe, {"one": run}, model=settings)
        for written in Path(temporary).iterdir():
            (folder / written.name).write_bytes(written.read_bytes())


pictures = dict(image=picture(60, 40), mask_image=mask(60, 40))


@case("file-sd1")
def file_sd1(out, name):
    single(out, name, "sd1", StableDiffusionPipeline, pndm)


@case("file-sd1-half")
def file_sd1_half(out, name):
    single(out, name, "sd1", StableDiffusionPipeline, pndm, dtype=torch.float16)


@case("file-sd1-v")
def file_sd1_v(out, name):
    single(out, name, "sd1", StableDiffusionPipeline, ddim_v, dtype=torch.bfloat16, metadata={"modelspec.predict_key": "v"})


@case("file-sd1-inpainting")
def file_sd1_inpainting(out, name):
    single(out, name, "sd1", StableDiffusionInpaintPipeline, pndm, dtype=torch.float16, family=dict(in_channels=9), pictures=pictures)


@case("file-sd1-gguf")
def file_sd1_gguf(out, name):
    single(out, name, "sd1", StableDiffusionPipeline, pndm, as_gguf=True)


@case("file-sd1-lora")
def file_sd1_lora(out, name):
    single(out, name, "sd1", StableDiffusionPipeline, pndm, dtype=torch.float16, lora=unet_layers + text_layers)


@case("file-sd2")
def file_sd2(out, name):
    single(out, name, "sd2", StableDiffusionPipeline, ddim_v, dtype=torch.float16)


@case("file-sd2-base")
def file_sd2_base(out, name):
    single(out, name, "sd2", StableDiffusionPipeline, ddim, dtype=torch.float16, metadata={"modelspec.predict_key": "epsilon"})


@case("file-sdxl")
def file_sdxl(out, name):
    single(out, name, "sdxl", StableDiffusionXLPipeline, euler, dtype=torch.float16)


@case("file-sdxl-inpainting")
def file_sdxl_inpainting(out, name):
    single(out, name, "sdxl", StableDiffusionXLInpaintPipeline, euler, dtype=torch.float16, family=dict(in_channels=9), pictures=pictures)
