"""Networks alone, in the sizes of diffusers' own tests and in others."""
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from common import case, doubled, draw, fresh, normal, write_json, write_network

# ------------------------------------------------------------------ UNets

# As get_dummy of UNet2DConditionModel's tests, and of Stable Diffusion's pipelines.
dummy = dict(
    block_out_channels=(4, 8), norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    cross_attention_dim=8, up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=2, out_channels=4,
    in_channels=4, layers_per_block=2, sample_size=16,
)  # fmt: skip
three = dict(
    block_out_channels=(8, 16, 16), norm_num_groups=4, cross_attention_dim=12, attention_head_dim=2, layers_per_block=1,
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), sample_size=16,
)  # fmt: skip
xl = dict(
    block_out_channels=(32, 64), layers_per_block=2, sample_size=32, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4), use_linear_projection=True,
    addition_embed_type="text_time", addition_time_embed_dim=8, transformer_layers_per_block=(1, 2),
    projection_class_embeddings_input_dim=80, cross_attention_dim=64,
)  # fmt: skip
sizes = torch.tensor([[1024.0, 768.0, 0.0, 64.0, 1024.0, 1024.0], [512.0, 512.0, 8.0, 0.0, 1024.0, 768.0]])

unets = {
    "dummy": (dummy, {}),
    "dummy-pipeline": (dict(dummy, block_out_channels=(32, 64), norm_num_groups=32, cross_attention_dim=32, sample_size=32), {}),
    "batch-1-timestep-0": (dummy, dict(batch=1, times=[0])),
    "wide-image": (dummy, dict(height=4, width=40)),
    "many-tokens": (dummy, dict(tokens=77)),
    "odd-size": (three, dict(height=11, width=7)),
    "odd-size-padding-0": (dict(three, downsample_padding=0), dict(height=13, width=9)),
    "linear-projection": (dict(three, use_linear_projection=True), {}),
    "heads-per-block": (dict(three, attention_head_dim=(2, 4, 8)), {}),
    "layers-per-block": (dict(three, layers_per_block=(1, 3, 2)), {}),
    "transformer-layers-per-block": (dict(three, transformer_layers_per_block=(1, 3, 1)), {}),
    "transformer-layers-by-layer": (
        dict(three, layers_per_block=2, transformer_layers_per_block=[[1, 2], [2, 1], 1],
             reverse_transformer_layers_per_block=[1, [1, 3, 2], [2, 1, 1]], mid_block_type="UNetMidBlock2D"), {}),
    "cross-attention-dim-per-block": (dict(three, cross_attention_dim=(12, 12, 12)), {}),
    "only-cross-attention": (dict(three, only_cross_attention=True), {}),
    "only-cross-attention-per-block": (dict(three, only_cross_attention=(True, False, True)), {}),
    "mid-block-only-cross-attention": (dict(three, mid_block_only_cross_attention=True), {}),
    "upcast-attention": (dict(three, upcast_attention=True), {}),
    "time-cond": (dict(dummy, time_cond_proj_dim=16), dict(cond=16)),
    "scale-shift": (dict(dummy, resnet_time_scale_shift="scale_shift"), {}),
    "flip-shift": (dict(dummy, flip_sin_to_cos=False, freq_shift=1), {}),
    "centered": (dict(dummy, center_input_sample=True), {}),
    "norm-eps": (dict(dummy, norm_eps=1e-2), {}),
    "plain-middle": (dict(dummy, mid_block_type="UNetMidBlock2D"), {}),
    "no-middle": (dict(dummy, mid_block_type=None), {}),
    "nine-channels": (dict(dummy, in_channels=9, use_linear_projection=True), {}),
    "sixteen-channels": (dict(dummy, in_channels=16, out_channels=16), {}),
    "one-level": (dict(dummy, block_out_channels=(8,), down_block_types=("CrossAttnDownBlock2D",), up_block_types=("CrossAttnUpBlock2D",)), {}),
    "xl": (xl, dict(text=32, ids=6, height=9, width=12)),
    "xl-refiner": (xl, dict(text=40, ids=5)),
    "xl-nine-channels": (dict(xl, in_channels=9), dict(text=32, ids=6)),
    "xl-time-cond": (dict(xl, time_cond_proj_dim=8), dict(text=32, ids=6, cond=8)),
}  # fmt: skip


def write_unet(out, name, config, batch=2, height=16, width=16, times=(981, 3), tokens=5, cond=None, text=None, ids=None):
    model = draw(UNet2DConditionModel(**config), name)
    context = config["cross_attention_dim"]
    context = context if isinstance(context, int) else context[0]
    inputs = dict(sample=normal(batch, model.config.in_channels, height, width), timestep=torch.tensor(list(times)))
    inputs["encoder_hidden_states"] = normal(batch, tokens, context)
    if cond:
        inputs["timestep_cond"] = normal(batch, cond)
    call, added = dict(inputs), {}
    if text:
        added = {"text_embeds": normal(batch, text), "time_ids": sizes[:batch, :ids].contiguous()}
        call["added_cond_kwargs"] = added
    inputs |= {f"added_cond_kwargs.{key}": value for key, value in added.items()}
    write_network(out, name, model, inputs, lambda: dict(sample=model(**doubled(call)).sample))


for kind, (config, options) in unets.items():
    case(f"unet-{kind}")(lambda out, name, config=config, options=options: write_unet(out, name, config, **options))


@case("unet-dual-cross-attention-refused")
def dual_cross(out, name):
    draw(UNet2DConditionModel(**dict(dummy, dual_cross_attention=True)), name).save_pretrained(fresh(out, name))
    write_json(out / name / "case.json", {"refused": "dual_cross_attention"})


# ------------------------------------------------------------------ transformers


def write_transformer(out, name, model, height, width, **inputs):
    draw(model, name)
    inputs = dict(hidden_states=normal(2, model.config.in_channels, height, width), timestep=torch.tensor([981, 3]), **inputs)
    call = dict(inputs)
    if isinstance(model, PixArtTransformer2DModel):
        added = {key: call.pop(key, None) for key in ("resolution", "aspect_ratio")}
        call["added_cond_kwargs"] = added
        inputs = {(f"added_cond_kwargs.{key}" if key in added else key): value for key, value in inputs.items()}
    write_network(out, name, model, inputs, lambda: dict(sample=model(**doubled(call)).sample))


text = dict(encoder_hidden_states=normal(2, 8, 20), encoder_attention_mask=torch.tensor([[1] * 8, [1] * 3 + [0] * 5]))
# As the tests of PixArtTransformer2DModel.
pixart = dict(
    sample_size=8, num_layers=1, patch_size=2, attention_head_dim=2, num_attention_heads=2, in_channels=4, cross_attention_dim=4,
    out_channels=8, attention_bias=True, activation_fn="gelu-approximate", num_embeds_ada_norm=8, norm_type="ada_norm_single",
    norm_elementwise_affine=False, norm_eps=1e-6, use_additional_conditions=False, caption_channels=20,
)  # fmt: skip


@case("pixart-dummy")
def pixart_dummy(out, name):
    write_transformer(out, name, PixArtTransformer2DModel(**pixart), 8, 8, **text)


@case("pixart-other-size")
def pixart_size(out, name):
    write_transformer(out, name, PixArtTransformer2DModel(**dict(pixart, num_layers=3, interpolation_scale=2)), 6, 14, **text)


@case("pixart-conditions")
def pixart_conditions(out, name):
    # The width has to hold three embeddings side by side.
    config = dict(pixart, attention_head_dim=6, cross_attention_dim=12, use_additional_conditions=True, sample_size=128)
    more = dict(resolution=torch.tensor([[1024.0, 768.0], [512.0, 512.0]]), aspect_ratio=torch.tensor([[0.75], [1.0]]))
    write_transformer(out, name, PixArtTransformer2DModel(**config), 8, 12, **text, **more)


# As the tests of SD3Transformer2DModel and of Stable Diffusion 3.5's.
sd3 = dict(
    sample_size=32, patch_size=1, in_channels=4, num_layers=4, attention_head_dim=8, num_attention_heads=4,
    caption_projection_dim=32, joint_attention_dim=32, pooled_projection_dim=64, out_channels=4, pos_embed_max_size=96,
)  # fmt: skip
sd3s = {
    "dummy": (dict(sd3, qk_norm=None), 32, 32),
    "3-5-dummy": (dict(sd3, dual_attention_layers=(0,), qk_norm="rms_norm"), 32, 32),
    "3-5-all-dual": (dict(sd3, dual_attention_layers=(0, 1, 2), qk_norm="rms_norm", patch_size=2, sample_size=16), 6, 10),
    "sixteen-channels": (dict(sd3, in_channels=16, out_channels=16, patch_size=2, pos_embed_max_size=24), 12, 20),
}
for kind, (config, height, width) in sd3s.items():

    @case(f"sd3-{kind}")
    def sd3_case(out, name, config=config, height=height, width=width):
        inputs = dict(encoder_hidden_states=normal(2, 9, 32), pooled_projections=normal(2, 64))
        write_transformer(out, name, SD3Transformer2DModel(**config), height, width, **inputs)


# ------------------------------------------------------------------ autoencoders


def write_autoencoder(out, name, model, height=16, width=16, latent=(8, 8)):
    draw(model, name)
    image, latent = normal(1, 3, height, width), normal(1, model.config.latent_channels, *latent)

    def outputs():
        decoded = model.decode(latent.double()).sample
        if isinstance(model, AutoencoderTiny):
            return dict(latents=model.encode(image.double()).latents, decoded=decoded)
        posterior = model.encode(image.double()).latent_dist
        return dict(moments=posterior.parameters, mean=posterior.mean, std=posterior.std, decoded=decoded)

    write_network(out, name, model, dict(image=image, latent=latent), outputs)


def kl(*channels, **config):
    made = dict(
        block_out_channels=channels, in_channels=3, out_channels=3, down_block_types=["DownEncoderBlock2D"] * len(channels),
        up_block_types=["UpDecoderBlock2D"] * len(channels), latent_channels=4, norm_num_groups=2,
    )  # fmt: skip
    return AutoencoderKL(**(made | config))


def taesd(**config):
    made = dict(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 2), num_decoder_blocks=(2, 1),
    )  # fmt: skip
    return AutoencoderTiny(in_channels=3, out_channels=3, **(made | config))


autoencoders = {
    # As the tests of AutoencoderKL and AutoencoderTiny.
    "vae-dummy": (lambda: kl(2, 4), dict(height=32, width=32, latent=(16, 16))),
    "vae-tiny-dummy": (lambda: AutoencoderTiny(
        in_channels=3, out_channels=3, encoder_block_out_channels=(32, 32), decoder_block_out_channels=(32, 32),
        num_encoder_blocks=(1, 2), num_decoder_blocks=(2, 1)), {}),
    "vae-other-size": (lambda: kl(4, 8, 8, layers_per_block=2), dict(height=20, width=12, latent=(3, 7))),
    "vae-no-middle-attention": (lambda: kl(4, 8, mid_block_add_attention=False), {}),
    "vae-no-quant": (lambda: kl(4, 8, latent_channels=16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06), {}),
    "vae-attention": (lambda: kl(4, 8, down_block_types=["AttnDownEncoderBlock2D", "DownEncoderBlock2D"],
                                 up_block_types=["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]), {}),
    "vae-tiny-four-levels": (lambda: taesd(
        encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4, num_encoder_blocks=(1, 3, 3, 3),
        num_decoder_blocks=(3, 3, 3, 1)), dict(height=24, width=40, latent=(3, 5))),
    "vae-tiny-sixteen-channels": (lambda: taesd(latent_channels=16), {}),
}  # fmt: skip
for kind, (make, options) in autoencoders.items():
    case(kind)(lambda out, name, make=make, options=options: write_autoencoder(out, name, make(), **options))

# ------------------------------------------------------------------ text encoders

ids = torch.tensor([[5, 20, 7, 1, 29, 29, 29], [9, 1, 29, 29, 29, 29, 29]])
clip = dict(
    bos_token_id=0, eos_token_id=2, hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=5,
    pad_token_id=1, vocab_size=1000, max_position_embeddings=16,
)  # fmt: skip
texts = {
    # As in the tests of Stable Diffusion's pipelines, and of XL's.
    "clip-dummy": (CLIPTextModel, {}),
    "clip-dummy-xl": (CLIPTextModelWithProjection, dict(hidden_act="gelu", projection_dim=32)),
    "clip-projection-narrow": (CLIPTextModelWithProjection, dict(projection_dim=10, eos_token_id=29)),
}
for kind, (model_class, changes) in texts.items():

    @case(kind)
    def clip_case(out, name, model_class=model_class, changes=changes):
        model = draw(model_class(CLIPTextConfig(**(clip | changes))), name)
        pooled = "pooler_output" if model_class is CLIPTextModel else "text_embeds"

        def outputs():
            found = model(ids, output_hidden_states=True)
            return {"last_hidden_state": found.last_hidden_state, pooled: found[pooled], "hidden_states.4": found.hidden_states[4]}

        write_network(out, name, model, dict(input_ids=ids), outputs)


@case("t5-dummy")
def t5(out, name):
    config = T5Config(vocab_size=60, d_model=32, d_ff=37, d_kv=8, num_heads=4, num_layers=5, feed_forward_proj="gated-gelu")
    model = draw(T5EncoderModel(config), name)
    tokens = torch.tensor([[5, 20, 7, 1, 0, 0], [9, 1, 0, 0, 0, 0]])
    attended = (tokens != 0).long()
    outputs = lambda: dict(last_hidden_state=model(tokens, attention_mask=attended).last_hidden_state)
    write_network(out, name, model, dict(input_ids=tokens, attention_mask=attended), outputs)
