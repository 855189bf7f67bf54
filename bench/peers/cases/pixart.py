"""Whole runs of PixArt's pipelines from a prompt, with a T5 text encoder."""
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SASolverScheduler,
)
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from common import Record, as_kind, case, draw, fixtures, vae, write_pipeline
from schedulers import PROMPT

LINEAR = dict(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
dpm = DPMSolverMultistepScheduler(**LINEAR)
base = dict(**PROMPT, guidance_scale=4.5, num_inference_steps=6, height=16, width=24, seed=3, clean_caption=False, use_resolution_binning=False)
runs = {
    "plain": (base, None),
    "no-guidance": (dict(base, guidance_scale=1.0), None),
    "fewer-tokens": (dict(base, max_sequence_length=6), None),
    "images-per-prompt": (dict({key: value for key, value in base.items() if key != "seed"}, num_images_per_prompt=2, seeds=[4, 5]), None),
    "euler": (base, EulerDiscreteScheduler(**LINEAR)),
    "sasolver": (base, SASolverScheduler(**LINEAR)),
    "ddim-eta": (dict(base, eta=0.4), DDIMScheduler(**LINEAR, clip_sample=False)),
    "timesteps": (dict(base, timesteps=[950, 700, 400, 100], num_inference_steps=4), dpm),
}


class PixArtRecord(Record):
    names = ("prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask")


def run(pipe, call, scheduler):
    arguments = {key: value for key, value in call.items() if key not in ("seed", "seeds", "scheduler")}
    made = as_kind(pipe, type(pipe), scheduler)
    seeds = [torch.Generator().manual_seed(seed) for seed in call.get("seeds", [call.get("seed")])]
    with PixArtRecord(made) as kept, torch.no_grad():
        images = made(
            **arguments, generator=seeds if "seeds" in call else seeds[0], output_type="np",
            callback=lambda _index, _timestep, latents: kept.states.append(latents.clone()),
        ).images  # fmt: skip
    return call, kept.outputs(images)


def write(out, name, kind, own, **config):
    t5 = T5Config(d_model=20, d_kv=4, d_ff=24, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu", vocab_size=128)
    tokens = str(fixtures / "pipelines" / "pixart-256" / "tokenizer" / "tokenizer.json")
    pipe = kind(
        vae=vae(), text_encoder=draw(T5EncoderModel(t5), "t5"), scheduler=own,
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_file=tokens, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
        ),
        transformer=draw(PixArtTransformer2DModel(
            num_layers=2, attention_head_dim=12, num_attention_heads=4, cross_attention_dim=48, caption_channels=20, patch_size=2,
            in_channels=4, out_channels=8, **config), "pixart"),
    )  # fmt: skip
    made, folders = {}, {}
    for label, (call, scheduler) in runs.items():
        if scheduler is not None:
            call = dict(call, scheduler=f"scheduler_{label}")
            folders[f"scheduler_{label}"] = scheduler
        made[label] = run(pipe, call, scheduler or own)
    write_pipeline(out, name, pipe, made, folders)


@case("pixart-alpha-whole")
def alpha(out, name):
    write(out, name, PixArtAlphaPipeline, dpm, sample_size=16, use_additional_conditions=False)


@case("pixart-alpha-micro-conditions")
def micro(out, name):
    write(out, name, PixArtAlphaPipeline, dpm, sample_size=128)


@case("pixart-sigma-whole")
def sigma(out, name):
    write(out, name, PixArtSigmaPipeline, EulerDiscreteScheduler(**LINEAR), sample_size=32, interpolation_scale=1)
