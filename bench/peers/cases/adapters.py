"""LoRAs on whole pipelines: as diffusers runs them beside the weights, and added to the weights; those that are refused."""
import tempfile
from pathlib import Path

import torch
import transformers.integrations.peft as integration
from diffusers import (
    DPMSolverMultistepScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from common import case, draw, normal, picture, record, seeded, vae, write_json, write_pipeline
from schedulers import PROMPT, small_pipeline
from stills import base, euler, pndm, xl_parts

# transformers 5.24 asks for PEFT 0.22, which is not published; 0.21.2 has what is used here.
integration.MIN_PEFT_VERSION = "0.21.2"

text = StableDiffusionPipeline
call = dict(**PROMPT, **base)


def randomised(state, name):
    generator = seeded(name)
    return {key: (torch.rand(value.shape, generator=generator) - 0.5) * 0.6 for key, value in state.items()}


def peft_file(path, pipe, configs, name, kind=StableDiffusionPipeline):
    """As diffusers saves LoRAs after training; `configs` by component."""
    states, metadata = {}, {}
    for part, config in configs.items():
        model = getattr(pipe, part)
        model.add_adapter(config)
        states[part] = randomised(get_peft_model_state_dict(model), name + part)
        metadata[part] = model.peft_config["default"].to_dict()
    with tempfile.TemporaryDirectory() as folder:
        layers = {f"{part}_lora_layers": state for part, state in states.items()}
        adapters = {f"{part}_lora_adapter_metadata": value for part, value in metadata.items()}
        kind.save_lora_weights(folder, **layers, **adapters)
        path.write_bytes((Path(folder) / "pytorch_lora_weights.safetensors").read_bytes())


def kohya_file(path, pipe, layers, name, alpha=2.0):
    """As sd-scripts writes them: (prefix, component, module, name in the file, rank)."""
    generator = seeded(name)
    tensors = {}
    for prefix, component, module, written, rank in layers:
        out, inner, *kernel = getattr(pipe, component).get_submodule(module).weight.shape
        key = f"{prefix}_{written.replace('.', '_')}"
        random = lambda *shape: (torch.rand(shape, generator=generator) - 0.5) * 0.6
        tensors[f"{key}.lora_up.weight"] = random(out, rank, *[1 for _ in kernel])
        tensors[f"{key}.lora_down.weight"] = random(rank, inner, *kernel)
        tensors[f"{key}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path)


def loaded(make, files):
    """A pipeline with these (path, scale), beside its weights."""
    pipe = make()
    for i, (path, _) in enumerate(files):
        pipe.load_lora_weights(str(path), adapter_name=f"lora{i}")
    pipe.set_adapters([f"lora{i}" for i in range(len(files))], [scale for _, scale in files])
    return pipe


def merged(make, files):
    pipe = loaded(make, files)
    parts = [part for part in ("unet", "transformer", "text_encoder", "text_encoder_2") if getattr(getattr(pipe, part, None), "peft_config", None)]
    pipe.fuse_lora(components=parts)
    pipe.unload_lora_weights()
    return pipe


def write_lora(out, name, make, scales, runs, kind=text, scheduler=pndm):
    """`runs` by name; each twice. The files lie in a folder beside, by number."""
    folder = out / name
    files = [(Path(f"{folder}-files") / f"lora-{i}.safetensors", scale) for i, scale in enumerate(scales)]
    made = {}
    for label, build in {"beside": loaded, "merged": merged}.items():
        pipe = build(make, files)
        for run, arguments in runs.items():
            pictures = {key: arguments[key] for key in ("image",) if key in arguments}
            stored = {key: value for key, value in arguments.items() if key != "image"}
            made[f"{run}-{label}"] = record(pipe, StableDiffusionImg2ImgPipeline if pictures else kind, stored, scheduler, **pictures)
    write_pipeline(out, name, make(), made)
    loras = []
    for path, scale in files:
        path.rename(folder / path.name)
        loras.append(dict(file=path.name, scale=scale))
    files[0][0].parent.rmdir()
    write_json(folder / "case.json", dict(loras=loras))


def files_of(out, name):
    folder = out / f"{name}-files"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


attention = "down_blocks.0.attentions.0"
block = attention + ".transformer_blocks.0"
unet_layers = [("lora_unet", "unet", module, module, rank) for module, rank in [
    (block + ".attn1.to_k", 4), (block + ".attn2.to_v", 2), (block + ".attn1.to_out.0", 4), (block + ".ff.net.0.proj", 3)]]  # fmt: skip
conv_layers = [("lora_unet", "unet", module, module, rank) for module, rank in [
    (attention + ".proj_in", 4), ("down_blocks.0.resnets.0.conv1", 2), ("up_blocks.0.upsamplers.0.conv", 1),
    ("mid_block.resnets.1.time_emb_proj", 2)]]  # fmt: skip
# All of a layer's projections: diffusers counts them by rank.
text_layers = [("lora_te", "text_encoder", module, "text_model." + module, rank) for module, rank in [
    *((f"encoder.layers.0.self_attn.{part}_proj", 4) for part in ("q", "k", "v", "out")), ("encoder.layers.1.mlp.fc2", 2)]]  # fmt: skip


@case("lora-peft")
def lora_peft(out, name):
    configs = {
        "unet": LoraConfig(r=4, lora_alpha=6, target_modules=["to_q", "to_out.0", "conv_shortcut"],
                           rank_pattern={"attn2.to_q": 2}, alpha_pattern={"attn2.to_q": 5}),
        "text_encoder": LoraConfig(r=3, lora_alpha=3, target_modules=["q_proj", "fc1"]),
    }  # fmt: skip
    peft_file(files_of(out, name) / "lora-0.safetensors", small_pipeline(), configs, name)
    write_lora(out, name, small_pipeline, [0.8], {"text": call, "image": dict(call, strength=0.6, image=picture(18, 16))})


@case("lora-peft-rslora")
def lora_rslora(out, name):
    configs = {"unet": LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=["to_k", "to_v", "ff.net.2"])}
    peft_file(files_of(out, name) / "lora-0.safetensors", small_pipeline(), configs, name)
    write_lora(out, name, small_pipeline, [1.0], {"text": call})


@case("lora-text-encoder")
def lora_text(out, name):
    configs = {"text_encoder": LoraConfig(r=3, lora_alpha=6, target_modules=["q_proj", "k_proj", "out_proj", "fc2"])}
    peft_file(files_of(out, name) / "lora-0.safetensors", small_pipeline(), configs, name)
    write_lora(out, name, small_pipeline, [1.5], {"text": call, "clip-skip": dict(call, clip_skip=1)})


@case("lora-kohya")
def lora_kohya(out, name):
    kohya_file(files_of(out, name) / "lora-0.safetensors", small_pipeline(), unet_layers + text_layers, name)
    write_lora(out, name, small_pipeline, [0.7], {"text": call})


@case("lora-kohya-conv")
def lora_conv(out, name):
    kohya_file(files_of(out, name) / "lora-0.safetensors", small_pipeline(), conv_layers, name)
    write_lora(out, name, small_pipeline, [1.0], {"text": call})


@case("lora-two")
def lora_two(out, name):
    folder = files_of(out, name)
    kohya_file(folder / "lora-0.safetensors", small_pipeline(), unet_layers + text_layers, name)
    kohya_file(folder / "lora-1.safetensors", small_pipeline(), unet_layers[1:] + conv_layers, name + "second")
    write_lora(out, name, small_pipeline, [0.7, -0.4], {"text": call})


def small_xl():
    return StableDiffusionXLPipeline(**xl_parts(), add_watermarker=False)


@case("lora-sdxl")
def lora_sdxl(out, name):
    """In the names of the original, as sd-scripts writes them for XL; both encoders."""
    names = {"down_blocks.1.attentions.0": "input_blocks.3.1", "mid_block.attentions.0": "middle_block.1",
             "up_blocks.0.attentions.1": "output_blocks.1.1"}  # fmt: skip
    layers = [("lora_unet", "unet", module + rest, original + rest, 4) for module, original in names.items()
              for rest in (".transformer_blocks.1.attn2.to_k", ".proj_in")]  # fmt: skip
    layers += [(prefix, component, f"{at}encoder.layers.1.self_attn.{part}_proj",
                f"text_model.encoder.layers.1.self_attn.{part}_proj", 2)
               for part in ("q", "k", "v", "out")
               for prefix, component, at in (("lora_te1", "text_encoder", ""), ("lora_te2", "text_encoder_2", "text_model."))]  # fmt: skip
    kohya_file(files_of(out, name) / "lora-0.safetensors", small_xl(), layers, name, alpha=1.0)
    write_lora(out, name, small_xl, [1.0], {"text": call}, StableDiffusionXLPipeline, euler)


# ------------------------------------------------------------------ PixArt


def small_pixart():
    transformer = draw(PixArtTransformer2DModel(
        num_layers=2, attention_head_dim=12, num_attention_heads=4, cross_attention_dim=48, caption_channels=20, patch_size=2,
        sample_size=16, in_channels=4, out_channels=8, use_additional_conditions=False), "pixart")  # fmt: skip
    scheduler = DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    pipe = PixArtAlphaPipeline(transformer=transformer, vae=vae(), scheduler=scheduler, text_encoder=None, tokenizer=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pixart_run(pipe):
    """From embeddings: its text encoder is T5."""
    states, decoded = [], []
    step, decode = pipe.scheduler.step, pipe.vae.decode

    def stepping(*args, **options):
        found = step(*args, **options)
        states.append(found[0].clone())
        return found

    def decoding(*args, **options):
        found = decode(*args, **options)
        decoded.append((found[0] if isinstance(found, tuple) else found.sample).clone())
        return found

    pipe.scheduler.step, pipe.vae.decode = stepping, decoding
    attended = torch.tensor([[1] * 7 + [0] * 3])
    prompts = dict(
        prompt_embeds=normal(1, 10, 20), negative_prompt_embeds=-normal(1, 10, 20), prompt_attention_mask=attended,
        negative_prompt_attention_mask=torch.tensor([[1] * 2 + [0] * 8]),
    )  # fmt: skip
    stored = dict(guidance_scale=4.5, num_inference_steps=7, height=16, width=24, use_resolution_binning=False)
    latents = normal(1, 4, 8, 12)
    with torch.no_grad():
        images = pipe(prompt=None, negative_prompt=None, **prompts, **stored, latents=latents.clone(), output_type="np").images
    return stored, {
        **{f"input.{key}": value for key, value in prompts.items()},
        "input.latents": latents,
        "output.timesteps": pipe.scheduler.timesteps,
        "output.latents_per_step": torch.stack(states),
        "output.latents": states[-1],
        "output.decoded": decoded[0],
        "output.image": torch.from_numpy(images),
    }


@case("lora-pixart")
def lora_pixart(out, name):
    runs = {"without": pixart_run(small_pixart())}
    state = None
    for label in ("beside", "merged"):
        pipe = small_pixart()
        adapted = get_peft_model(pipe.transformer, LoraConfig(r=2, lora_alpha=2, target_modules=["to_k", "proj_out", "linear_1"]))
        state = state or randomised(get_peft_model_state_dict(adapted), name)
        set_peft_model_state_dict(adapted, state)
        # PEFT changes the network itself; merging takes its layers out again.
        pipe.transformer = adapted.merge_and_unload() if label == "merged" else adapted.base_model.model
        runs[label] = pixart_run(pipe)
    assert not torch.equal(runs["without"][1]["output.latents"], runs["beside"][1]["output.latents"])
    del runs["without"]
    folder = write_pipeline(out, name, small_pixart(), runs)
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "lora.safetensors")
    write_json(folder / "case.json", dict(loras=[dict(file="lora.safetensors")]))


# ------------------------------------------------------------------ what is refused


def refused(out, name, make_file, why):
    pipe = small_pipeline()
    folder = write_pipeline(out, name, pipe, {})
    (folder / "calls.json").unlink()
    make_file(folder / "lora.safetensors")
    write_json(folder / "case.json", dict(loras=[dict(file="lora.safetensors")], refused=why))


@case("lora-dora-refused")
def lora_dora(out, name):
    config = LoraConfig(r=4, lora_alpha=4, use_dora=True, target_modules=["to_q", "to_v"])
    refused(out, name, lambda path: peft_file(path, small_pipeline(), {"unet": config}, name), "DoRA")


@case("lora-other-base-refused")
def lora_other(out, name):
    xl = small_xl()
    layers = [("lora_unet", "unet", layer, layer, 4) for layer in ["mid_block.attentions.0.transformer_blocks.0.attn2.to_k"]]
    refused(out, name, lambda path: kohya_file(path, xl, layers, name), "made for another base model")


@case("lora-unknown-keys-refused")
def lora_unknown(out, name):
    def make(path):
        kohya_file(path, small_pipeline(), unet_layers, name)
        save_file(load_file(path) | {"lora_unet_down_blocks_0.strange.weight": torch.ones(2, 2)}, path)

    refused(out, name, make, "lora_unet_down_blocks_0.strange.weight")
