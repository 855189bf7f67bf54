"""Whole runs of Stable Diffusion's pipelines: from a prompt, an image, an image and a mask, with each option of a call."""
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelImg2ImgPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    TCDScheduler,
)

from common import SD, case, draw, mask, picture, record, text_encoder, tokenizer, unet, vae, write_pipeline
from schedulers import PROMPT, small_pipeline

none = dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
pndm = PNDMScheduler(**SD, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
ddim = DDIMScheduler(**SD, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
euler = EulerDiscreteScheduler(**SD, timestep_spacing="leading", steps_offset=1)
trailing = EulerDiscreteScheduler(**SD, timestep_spacing="trailing")
ancestral = EulerAncestralDiscreteScheduler(**SD, timestep_spacing="trailing")
dpm = DPMSolverMultistepScheduler(**SD, use_karras_sigmas=True, steps_offset=1)
tcd = TCDScheduler(**SD, steps_offset=1)
lcm = LCMScheduler(**SD, original_inference_steps=50, timestep_scaling=10.0, steps_offset=1)
ZERO = dict(**SD, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")

base = dict(guidance_scale=5.0, num_inference_steps=6, seed=3)


class Runs:
    """The runs of one folder."""

    def __init__(self, pipe, own):
        self.pipe, self.own, self.runs, self.folders = pipe, own, {}, {}

    def add(self, run, kind, call, scheduler=None, **pictures):
        if scheduler is not None:
            call = dict(call, scheduler=f"scheduler_{run}")
            self.folders[f"scheduler_{run}"] = scheduler
        self.runs[run] = record(self.pipe, kind, call, scheduler or self.own, **pictures)

    def write(self, out, name):
        write_pipeline(out, name, self.pipe, self.runs, self.folders)


@case("sd-options")
def sd_options(out, name):
    runs = Runs(small_pipeline(), pndm)
    text = StableDiffusionPipeline
    prompt = dict(prompt=PROMPT["prompt"])
    both = dict(**PROMPT, **base)
    runs.add("no-negative-prompt", text, dict(**prompt, **base))
    runs.add("other-size", text, dict(both, height=24, width=40))
    runs.add("no-guidance", text, dict(both, guidance_scale=1.0))
    runs.add("guidance-15", text, dict(both, guidance_scale=15.0))
    runs.add("guidance-rescale", text, dict(both, guidance_rescale=0.7))
    runs.add("clip-skip-1", text, dict(both, clip_skip=1))
    runs.add("clip-skip-2", text, dict(both, clip_skip=2))
    runs.add("eta-ddim", text, dict(both, eta=0.6), ddim)
    runs.add("eta-tcd", text, dict(both, eta=0.3, num_inference_steps=4), tcd)
    runs.add("timesteps", text, dict(both, timesteps=[900, 700, 450, 200, 50], num_inference_steps=5), DPMSolverMultistepScheduler(**SD))
    runs.add("sigmas", text, dict(both, sigmas=[14.6, 6.4, 3.8, 1.2, 0.4, 0.0], num_inference_steps=5), trailing)
    batch = dict(base, prompt=["a cat", "the red house"], negative_prompt=["a dog", ""], seeds=[5, 9])
    del batch["seed"]
    runs.add("prompts", text, batch)
    runs.add("prompts-ancestral", text, batch, ancestral)
    several = dict(**PROMPT, guidance_scale=5.0, num_inference_steps=4, num_images_per_prompt=3, seeds=[1, 2, 3])
    runs.add("images-per-prompt", text, several)
    runs.add("one-step", text, dict(both, num_inference_steps=1), trailing)
    runs.add("long-prompt", text, dict(both, prompt="the cat and the dog in the red house " * 6))
    runs.write(out, name)


@case("sd-from-image")
def sd_from_image(out, name):
    runs = Runs(small_pipeline(), pndm)
    kind, image = StableDiffusionImg2ImgPipeline, picture(21, 18)
    for strength in (0.3, 0.6, 1.0):
        call = dict(**PROMPT, **base, strength=strength)
        runs.add(f"pndm-{round(100 * strength)}", kind, call, image=image)
        for label, scheduler in {"ddim": ddim, "euler": euler, "dpm": dpm, "ancestral": ancestral}.items():
            runs.add(f"{label}-{round(100 * strength)}", kind, call, scheduler, image=image)
    runs.add("no-guidance", kind, dict(**PROMPT, **dict(base, guidance_scale=1.0), strength=0.5), image=image)
    runs.add("lcm", kind, dict(**PROMPT, guidance_scale=1.5, num_inference_steps=4, seed=2, strength=0.6), lcm, image=image)
    runs.write(out, name)


@case("sd-inpainting-4")
def sd_inpainting_four(out, name):
    inpainting(out, name, small_pipeline())


@case("sd-inpainting-9")
def sd_inpainting_nine(out, name):
    parts = dict(vae=vae(), text_encoder=text_encoder(10), tokenizer=tokenizer(), unet=unet(10, in_channels=9))
    inpainting(out, name, StableDiffusionInpaintPipeline(**parts, scheduler=pndm, **none))


def inpainting(out, name, pipe):
    runs = Runs(pipe, pndm)
    pictures = dict(image=picture(30, 20), mask_image=mask(30, 20))
    call = dict(**PROMPT, **base, height=16, width=24)
    for strength in (0.4, 0.75, 1.0):
        for label, scheduler in {"pndm": None, "ancestral": ancestral, "ddim": ddim}.items():
            runs.add(f"{label}-{round(100 * strength)}", StableDiffusionInpaintPipeline, dict(call, strength=strength), scheduler, **pictures)
    runs.write(out, name)


@case("sd-2-zero-snr")
def sd_zero_snr(out, name):
    """Stable Diffusion 2 as it is trained: v, the second last layer's states, linear projections, heads of one width."""
    scheduler = DDIMScheduler(**ZERO, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    parts = dict(
        vae=vae(), tokenizer=tokenizer(pad_token="!"), text_encoder=text_encoder(10, hidden_act="gelu", layers=4, name="open"),
        unet=unet(10, use_linear_projection=True, attention_head_dim=(2, 3)),
    )  # fmt: skip
    runs = Runs(StableDiffusionPipeline(**parts, scheduler=scheduler, **none), scheduler)
    text = StableDiffusionPipeline
    call = dict(**PROMPT, guidance_scale=7.5, num_inference_steps=6, seed=4, guidance_rescale=0.7)
    runs.add("ddim", text, call)
    runs.add("ddim-no-rescale", text, dict(call, guidance_rescale=0.0))
    runs.add("euler", text, call, EulerDiscreteScheduler(**ZERO))
    runs.add("ancestral", text, call, EulerAncestralDiscreteScheduler(**ZERO))
    runs.add("dpmpp", text, call, DPMSolverMultistepScheduler(**ZERO))
    runs.add("v-leading", text, call, DDIMScheduler(**SD, prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False, steps_offset=1))
    runs.add("image", StableDiffusionImg2ImgPipeline, dict(**PROMPT, **base, strength=0.6), image=picture(16, 20))
    runs.write(out, name)


@case("sd-turbo")
def sd_turbo(out, name):
    parts = dict(vae=vae(), text_encoder=text_encoder(10, hidden_act="gelu"), tokenizer=tokenizer(pad_token="!"), unet=unet(10, use_linear_projection=True))
    runs = Runs(StableDiffusionPipeline(**parts, scheduler=trailing, **none), trailing)
    for steps in (1, 2, 4):
        call = dict(prompt=PROMPT["prompt"], guidance_scale=0.0, num_inference_steps=steps, seed=steps)
        runs.add(f"steps-{steps}", StableDiffusionPipeline, call)
    call = dict(prompt=PROMPT["prompt"], guidance_scale=0.0, num_inference_steps=2, seed=1, strength=0.5)
    runs.add("image", StableDiffusionImg2ImgPipeline, call, image=picture(18, 16))
    runs.write(out, name)


@case("sd-tiny-autoencoder")
def sd_tiny_autoencoder(out, name):
    taesd = draw(AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 2), num_decoder_blocks=(2, 1),
    ), "taesd")  # fmt: skip
    # The pipelines ask for an autoencoder's levels.
    taesd.register_to_config(block_out_channels=(8, 8))
    parts = dict(vae=taesd, text_encoder=text_encoder(10), tokenizer=tokenizer(), unet=unet(10))
    runs = Runs(StableDiffusionPipeline(**parts, scheduler=pndm, **none), pndm)
    runs.add("text", StableDiffusionPipeline, dict(**PROMPT, **base))
    runs.add("image", StableDiffusionImg2ImgPipeline, dict(**PROMPT, **base, strength=0.6), image=picture(22, 18))
    runs.write(out, name)


@case("sd-lcm")
def sd_lcm(out, name):
    parts = dict(vae=vae(), text_encoder=text_encoder(10), tokenizer=tokenizer(), unet=unet(10, time_cond_proj_dim=8))
    runs = Runs(LatentConsistencyModelPipeline(**parts, scheduler=lcm, **none), lcm)
    for steps, scale in ((1, 8.5), (4, 8.5), (8, 1.0)):
        call = dict(prompt=PROMPT["prompt"], guidance_scale=scale, num_inference_steps=steps, seed=steps)
        runs.add(f"steps-{steps}", LatentConsistencyModelPipeline, call)
    for strength in (0.3, 0.6, 1.0):
        call = dict(prompt=PROMPT["prompt"], guidance_scale=8.5, num_inference_steps=4, seed=7, strength=strength)
        runs.add(f"image-{round(100 * strength)}", LatentConsistencyModelImg2ImgPipeline, call, image=picture(21, 18))
    runs.write(out, name)


# ------------------------------------------------------------------ Stable Diffusion XL


def xl_unet(context, pooled, ids=6, **config):
    made = dict(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=pooled + 4 * ids,
        transformer_layers_per_block=(1, 2), use_linear_projection=True, attention_head_dim=(2, 4),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return unet(context, **(made | config))


def xl_parts(projection=12, **config):
    return dict(
        vae=vae(), text_encoder=text_encoder(10), tokenizer=tokenizer(), tokenizer_2=tokenizer(pad_token="!"),
        text_encoder_2=text_encoder(12, projection, name="second", hidden_act="gelu"), unet=xl_unet(22, projection, **config),
        scheduler=euler,
    )  # fmt: skip


xl_image = dict(image=picture(21, 18))
xl_masked = dict(image=picture(30, 20), mask_image=mask(30, 20))


@case("sdxl-options")
def sdxl_options(out, name):
    runs = Runs(StableDiffusionXLPipeline(**xl_parts(), add_watermarker=False), euler)
    text = StableDiffusionXLPipeline
    call = dict(**PROMPT, **base)
    second = dict(prompt_2="a dog", negative_prompt_2="a house")
    sizes = dict(original_size=[30, 40], crops_coords_top_left=[2, 3], target_size=[24, 32])
    runs.add("plain", text, call)
    runs.add("zeros-for-no-negative", text, dict(prompt=PROMPT["prompt"], **base))
    runs.add("second-prompt", text, dict(call, **second))
    runs.add("sizes", text, dict(call, **sizes, height=16, width=24))
    apart = dict(negative_original_size=[10, 12], negative_target_size=[8, 9])
    runs.add("negative-sizes", text, dict(call, **sizes, **apart, height=16, width=24))
    runs.add("negative-crop", text, dict(call, **sizes, **apart, negative_crops_coords_top_left=[1, 4], height=16, width=24))
    runs.add("denoising-end", text, dict(call, denoising_end=0.6))
    runs.add("guidance-rescale", text, dict(call, guidance_rescale=0.5))
    runs.add("clip-skip", text, dict(call, clip_skip=1))
    runs.add("no-guidance", text, dict(call, guidance_scale=1.0))
    several = dict(**PROMPT, **second, guidance_scale=5.0, num_inference_steps=4, num_images_per_prompt=2, seeds=[1, 2])
    runs.add("images-per-prompt", text, several, ancestral)
    batch = dict(prompt=["a cat", "the red house"], negative_prompt=["a dog", ""], guidance_scale=5.0, num_inference_steps=4, seeds=[5, 9])
    runs.add("prompts", text, batch)
    for strength in (0.3, 0.6, 1.0):
        runs.add(f"image-{round(100 * strength)}", StableDiffusionXLImg2ImgPipeline, dict(call, strength=strength), **xl_image)
        runs.add(f"mask-{round(100 * strength)}", StableDiffusionXLInpaintPipeline, dict(call, strength=strength, height=16, width=24), ancestral, **xl_masked)
    runs.write(out, name)


@case("sdxl-inpainting-9")
def sdxl_inpainting(out, name):
    pipe = StableDiffusionXLInpaintPipeline(**xl_parts(in_channels=9), add_watermarker=False)
    runs = Runs(pipe, euler)
    for strength in (0.4, 0.9999, 1.0):
        call = dict(**PROMPT, **base, strength=strength, height=16, width=24)
        runs.add(f"strength-{round(100 * strength - 0.001)}" if strength < 1 else "strength-whole", StableDiffusionXLInpaintPipeline, call, **xl_masked)
    runs.write(out, name)


@case("sdxl-narrow-projection")
def sdxl_projection(out, name):
    """The second encoder's projection makes its pooled state narrower than its states."""
    runs = Runs(StableDiffusionXLPipeline(**xl_parts(projection=6), add_watermarker=False), euler)
    runs.add("plain", StableDiffusionXLPipeline, dict(**PROMPT, **base))
    runs.write(out, name)


@case("sdxl-second-encoder-alone")
def sdxl_second(out, name):
    parts = dict(xl_parts(), text_encoder=None, tokenizer=None, unet=xl_unet(12, 12))
    pipe = StableDiffusionXLPipeline(**parts, force_zeros_for_empty_prompt=False, add_watermarker=False)
    runs = Runs(pipe, euler)
    runs.add("plain", StableDiffusionXLPipeline, dict(**PROMPT, **base))
    runs.add("empty-negative", StableDiffusionXLPipeline, dict(prompt=PROMPT["prompt"], **base))
    runs.write(out, name)


@case("sdxl-turbo")
def sdxl_turbo(out, name):
    pipe = StableDiffusionXLPipeline(**dict(xl_parts(), scheduler=ancestral), add_watermarker=False)
    runs = Runs(pipe, ancestral)
    for steps in (1, 2, 4):
        call = dict(prompt=PROMPT["prompt"], guidance_scale=0.0, num_inference_steps=steps, seed=steps)
        runs.add(f"steps-{steps}", StableDiffusionXLPipeline, call)
    call = dict(prompt=PROMPT["prompt"], guidance_scale=0.0, num_inference_steps=2, seed=1, strength=0.5)
    runs.add("image", StableDiffusionXLImg2ImgPipeline, call, **xl_image)
    runs.write(out, name)


@case("sdxl-lcm")
def sdxl_lcm(out, name):
    pipe = StableDiffusionXLPipeline(**dict(xl_parts(time_cond_proj_dim=8), scheduler=lcm), add_watermarker=False)
    runs = Runs(pipe, lcm)
    runs.add("steps-4", StableDiffusionXLPipeline, dict(prompt=PROMPT["prompt"], guidance_scale=8.0, num_inference_steps=4, seed=4))
    runs.write(out, name)


@case("sdxl-refiner")
def sdxl_refiner(out, name):
    """The second encoder alone, and a score of beauty instead of a target size."""
    parts = dict(xl_parts(), text_encoder=None, tokenizer=None, unet=xl_unet(12, 12, ids=5))
    pipe = StableDiffusionXLImg2ImgPipeline(
        **parts, requires_aesthetics_score=True, force_zeros_for_empty_prompt=False, add_watermarker=False
    )
    runs = Runs(pipe, euler)
    for strength in (0.3, 0.6, 1.0):
        runs.add(f"strength-{round(100 * strength)}", StableDiffusionXLImg2ImgPipeline, dict(**PROMPT, **base, strength=strength), **xl_image)
    scores = dict(aesthetic_score=7.5, negative_aesthetic_score=1.0, original_size=[30, 40], crops_coords_top_left=[2, 3])
    runs.add("scores", StableDiffusionXLImg2ImgPipeline, dict(**PROMPT, **base, strength=0.6, **scores), **xl_image)
    runs.add("no-guidance", StableDiffusionXLImg2ImgPipeline, dict(**PROMPT, **dict(base, guidance_scale=1.0), strength=0.6), **xl_image)
    runs.add("denoising-start", StableDiffusionXLImg2ImgPipeline, dict(**PROMPT, **base, denoising_start=0.5), **xl_image)
    runs.add("mask", StableDiffusionXLInpaintPipeline, dict(**PROMPT, **base, strength=0.6, height=16, width=24), **xl_masked)
    runs.write(out, name)
