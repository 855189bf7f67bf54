"""Stable Diffusion's whole pipeline with every scheduler, in each of the spacings that it has."""
import inspect

import diffusers
import torch
from diffusers import StableDiffusionPipeline

from common import SD, case, record, text_encoder, tokenizer, unet, vae, write_pipeline

PROMPT = dict(prompt="a smiling cat with heart eyes", negative_prompt="the red house")

# Name: the class, and what tells it from others of its class. What is usual for the class is in SD's configuration.
kinds = {
    "ddim": ("DDIMScheduler", dict(clip_sample=False, set_alpha_to_one=False)),
    "ddpm": ("DDPMScheduler", dict(clip_sample=False)),
    "dpmpp": ("DPMSolverMultistepScheduler", {}),
    "sde-dpmpp": ("DPMSolverMultistepScheduler", dict(algorithm_type="sde-dpmsolver++")),
    "dpmpp-single": ("DPMSolverSinglestepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "sasolver": ("SASolverScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "kdpm2": ("KDPM2DiscreteScheduler", {}),
    "kdpm2-a": ("KDPM2AncestralDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", dict(original_inference_steps=50)),
    "tcd": ("TCDScheduler", dict(original_inference_steps=50)),
    "pndm": ("PNDMScheduler", dict(skip_prk_steps=True, set_alpha_to_one=False)),
    "pndm-prk": ("PNDMScheduler", dict(set_alpha_to_one=False)),
    "ddim-parallel": ("DDIMParallelScheduler", dict(clip_sample=False)),
    "ddpm-parallel": ("DDPMParallelScheduler", dict(clip_sample=False)),
    "ddim-inverse": ("DDIMInverseScheduler", dict(clip_sample=False)),
    # Of other processes: here a network that was trained on none is run with their noise levels.
    "edm-euler": ("EDMEulerScheduler", None),
    "edm-dpmpp": ("EDMDPMSolverMultistepScheduler", None),
    "ipndm": ("IPNDMScheduler", None),
}
STEPS = {"lcm": 4, "tcd": 4, "ipndm": 8}


def plans():
    """{run: scheduler}."""
    for name, (class_name, own) in kinds.items():
        made = getattr(diffusers, class_name)
        known = inspect.signature(made.__init__).parameters
        config = {} if own is None else {**SD, **own}
        if "steps_offset" in known:
            config["steps_offset"] = 1
        if "timestep_spacing" not in known:
            yield name, made(**config)
            continue
        for spacing in ("leading", "linspace", "trailing"):
            # Not what this class can do.
            if class_name == "DDIMInverseScheduler" and spacing == "linspace":
                continue
            yield f"{name}-{spacing}", made(**config, timestep_spacing=spacing)
    # What is known to be near a division by zero: the last noise level as high as the one before.
    for steps in (15, 20):
        for kind in ("midpoint", "heun"):
            config = dict(SD, use_karras_sigmas=True, final_sigmas_type="sigma_min", solver_type=kind)
            yield f"dpmpp-karras-min-{kind}-{steps}", diffusers.DPMSolverMultistepScheduler(**config)


def small_pipeline():
    return StableDiffusionPipeline(
        vae=vae(), text_encoder=text_encoder(10), tokenizer=tokenizer(), unet=unet(10),
        scheduler=diffusers.PNDMScheduler(**SD, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


@case("sd-schedulers")
def all_schedulers(out, name):
    pipe = small_pipeline()
    runs, folders = {}, {}
    for i, (run, scheduler) in enumerate(plans()):
        folders[f"scheduler_{run}"] = scheduler
        steps = STEPS.get(run.split("-")[0], int(run.rsplit("-", 1)[-1]) if run[-1].isdigit() and "min" in run else 6)
        call = dict(**PROMPT, guidance_scale=5.0, num_inference_steps=steps, seed=20 + i, scheduler=f"scheduler_{run}")
        try:
            runs[run] = record(pipe, StableDiffusionPipeline, call, scheduler)
            if not all(bool(torch.isfinite(value).all()) for value in runs[run][1].values() if value.is_floating_point()):
                raise ValueError("not finite")
        except (ValueError, TypeError, IndexError, AttributeError, RuntimeError, NotImplementedError) as error:
            print(f"  {name}/{run}: diffusers cannot: {type(error).__name__}: {str(error)[:150]}")
            runs.pop(run, None)
            folders.pop(f"scheduler_{run}")
    write_pipeline(out, name, pipe, runs, folders)
