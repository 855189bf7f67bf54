"""Whole runs of Stable Diffusion 3: three text encoders or two, schedulers of flow matching, from an image, with a LoRA."""
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3Pipeline,
    UniPCMultistepScheduler,
)
from peft import LoraConfig
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from adapters import files_of, peft_file, write_lora
from common import case, draw, fixtures, picture, text_encoder, tokenizer, vae
from schedulers import PROMPT
from stills import Runs

flow = FlowMatchEulerDiscreteScheduler(shift=3.0)
dynamic = FlowMatchEulerDiscreteScheduler(
    use_dynamic_shifting=True, base_image_seq_len=4, max_image_seq_len=40, base_shift=0.5, max_shift=1.15
)
others = {
    "shift-1": FlowMatchEulerDiscreteScheduler(shift=1.0),
    "karras": FlowMatchEulerDiscreteScheduler(shift=3.0, use_karras_sigmas=True),
    "exponential": FlowMatchEulerDiscreteScheduler(shift=3.0, use_exponential_sigmas=True),
    "beta": FlowMatchEulerDiscreteScheduler(shift=3.0, use_beta_sigmas=True),
    "stochastic": FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True),
    "dynamic": dynamic,
    "heun": FlowMatchHeunDiscreteScheduler(shift=3.0),
    "lcm": FlowMatchLCMScheduler(shift=3.0),
    "unipc": UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    "dpmpp": DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
}
base = dict(guidance_scale=5.0, num_inference_steps=5, height=16, width=24, max_sequence_length=10, seed=9)
call = dict(**PROMPT, **base)


def small_sd3(t5=True):
    shifted = dict(latent_channels=16, scaling_factor=1.2, shift_factor=0.3, use_quant_conv=False, use_post_quant_conv=False)
    config = T5Config(d_model=26, d_kv=4, d_ff=24, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu", vocab_size=128)
    tokens = str(fixtures / "pipelines" / "pixart-256" / "tokenizer" / "tokenizer.json")
    third = dict(
        text_encoder_3=draw(T5EncoderModel(config), "t5"),
        tokenizer_3=PreTrainedTokenizerFast(
            tokenizer_file=tokens, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
        ),
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        vae=vae(**shifted), text_encoder=text_encoder(10, 10), tokenizer=tokenizer(), tokenizer_2=tokenizer(pad_token="!"),
        text_encoder_2=text_encoder(12, 12, name="second", hidden_act="gelu"), scheduler=flow,
        transformer=draw(SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=3, attention_head_dim=8, num_attention_heads=2,
            caption_projection_dim=16, joint_attention_dim=26, pooled_projection_dim=22, pos_embed_max_size=12,
            dual_attention_layers=(0,), qk_norm="rms_norm",
        ), "sd3"),
        **(third if t5 else dict(text_encoder_3=None, tokenizer_3=None)),
    )  # fmt: skip


@case("sd3-whole")
def sd3_whole(out, name):
    runs = Runs(small_sd3(), flow)
    text = StableDiffusion3Pipeline
    runs.add("plain", text, call)
    runs.add("no-guidance", text, dict(call, guidance_scale=1.0))
    more = dict(prompt_2="a dog", negative_prompt_2="a house", prompt_3="red cats", negative_prompt_3="blue")
    runs.add("three-prompts", text, dict(call, **more))
    runs.add("clip-skip", text, dict(call, clip_skip=1))
    for label, scheduler in others.items():
        runs.add(label, text, call, scheduler)
    runs.write(out, name)


@case("sd3-no-t5")
def sd3_two(out, name):
    runs = Runs(small_sd3(t5=False), flow)
    runs.add("plain", StableDiffusion3Pipeline, call)
    runs.add("default-tokens", StableDiffusion3Pipeline, {key: value for key, value in call.items() if key != "max_sequence_length"})
    runs.write(out, name)


@case("sd3-from-image")
def sd3_image(out, name):
    runs = Runs(small_sd3(), flow)
    for strength in (0.3, 0.6, 1.0):
        for label, scheduler in {"flow": None, "dynamic": dynamic}.items():
            arguments = dict(call, strength=strength)
            runs.add(f"{label}-{round(100 * strength)}", StableDiffusion3Img2ImgPipeline, arguments, scheduler, image=picture(21, 18))
    runs.write(out, name)


@case("lora-sd3")
def lora_sd3(out, name):
    configs = {
        "transformer": LoraConfig(r=3, lora_alpha=6, target_modules=["to_q", "add_k_proj", "to_add_out", "ff.net.2"]),
        "text_encoder_2": LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj", "fc1"]),
    }
    peft_file(files_of(out, name) / "lora-0.safetensors", small_sd3(), configs, name, StableDiffusion3Pipeline)
    write_lora(out, name, small_sd3, [0.8], {"text": call}, StableDiffusion3Pipeline, flow)
