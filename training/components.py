"""The parts of the pipeline: the classes of LTX-2 in a few megabytes, with the weights they begin their training with.

Sizes follow the world: a latent cell covers 32 x 32 pixels and 8 frames, as in LTX-2. Some constraints are stated
nowhere in the classes: the audio VAE's statistics are ``base_channels`` long but applied to packed latents, so
``base_channels == latent_channels * mel_bins / 4``; compression ratios of mixed down-blocks must be given; the
decoder's upsamplers must not be residual at this width, or the residual scrambles the sub-pixels.
"""

import itertools
from typing import Any, Final

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    FlowMatchEulerDiscreteScheduler,
    LTX2VideoTransformer3DModel,
)
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder
from transformers import Gemma3Config, Gemma3ForConditionalGeneration

from training import latents, sound
from training.world import KEYFRAME_STEP

TEXT_WIDTH: Final = 96
SEQUENCE_LENGTH: Final = 48
"""Tokens of a prompt, padding included. The connectors have no registers, so padding is attended: the model must be
served with the length it was trained with."""
PATCH: Final = 2
_FEATURES: Final = 64


def video_vae() -> Any:
    """The video VAE, its decoder set up to carry the code unchanged to the finest grid (:func:`_carry`)."""
    vae = _new(
        AutoencoderKLLTX2Video,
        latent_channels=latents.CHANNELS,
        block_out_channels=(_FEATURES,) * 4,
        down_block_types=("LTX2VideoDownBlock3D",) * 4,
        layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True,) * 4,
        downsample_type=("spatial", *("conv",) * 3),
        # First three times finer in time, which costs little on two rows and columns, then four times in space. All
        # but the types go from the finest grid to the coarsest. No layer looks at two keyframes at once, or the end of
        # a scene that turns would be drawn with the colours of its middle.
        decoder_block_out_channels=(_FEATURES,) * 7,
        decoder_layers_per_block=(2, 2, 1, 0, 0, 0, 0, 0),
        decoder_spatio_temporal_scaling=(True,) * 7,
        decoder_inject_noise=(False,) * 8,
        upsample_type=(*("temporal",) * 3, *("spatial",) * 4),
        upsample_residual=(False,) * 7,
        upsample_factor=(2, *(1,) * 6),  # half the features on the finest grid: it only mixes two colours
        patch_size=PATCH,
        encoder_causal=True,
        decoder_causal=False,
        decoder_spatial_padding_mode="zeros",
        spatial_compression_ratio=latents.CELL,
        temporal_compression_ratio=KEYFRAME_STEP,
    )
    with torch.no_grad():
        _begin_encoder(vae.encoder)
        _carry(vae.decoder)
    return vae


def _begin_encoder(encoder: Any) -> None:
    """Set the weights so that features go to the coarsest grid averaged in space, and in time as they are in the last
    of the frames that a latent stands for: that is the keyframe."""
    for name, parameter in encoder.named_parameters():
        if parameter.ndim < 2:
            parameter.zero_()
        else:
            torch.nn.init.kaiming_normal_(parameter, nonlinearity="linear")
            if "conv2" in name:
                parameter.mul_(0.3)
    smooth = torch.tensor([0.25, 0.5, 0.25])
    for block in encoder.down_blocks[1:]:
        convolution = block.downsamplers[0].conv
        convolution.weight.mul_(0.1)
        for channel in range(convolution.out_channels):
            convolution.weight[channel, channel, -1] = torch.outer(smooth, smooth)
    encoder.conv_out.conv.weight[-1] = 0  # the last channel is the logarithm of the variance, of which no use is made
    encoder.conv_out.conv.bias[-1] = -6


def _carry(decoder: Any) -> None:
    """Set the weights so that the finest grid begins with the exact code of each of its cells and frames.

    In a code of cosines and sines the place seen from another cell is a rotation, and a frame between two keyframes is
    nearly their mean, so convolutions can do both exactly. What is left to learn is how a cell of 4 x 4 pixels looks,
    given its own code: the residual blocks begin as the identity.
    """
    _identity(decoder.conv_in.conv)
    cell = float(latents.CELL)
    *blocks, finest = decoder.up_blocks
    for block in blocks:
        upsampler = block.upsamplers[0]
        if upsampler.stride[0] > 1:
            _upsample_time(upsampler.conv.conv)
        else:
            _upsample_space(upsampler.conv.conv, cell / 4)
            cell /= 2
    _mix(finest.upsamplers[0].conv.conv, cell / 4)
    for name, parameter in decoder.named_parameters():
        if "resnets" in name:
            if parameter.ndim < 2:
                parameter.zero_()
            elif "conv2" in name:
                parameter.mul_(0.02)
            else:
                _spread(parameter)
    decoder.conv_out.conv.weight.mul_(0.1)
    decoder.conv_out.conv.bias.zero_()


def _spread(weight: torch.Tensor) -> None:
    """Most of a kernel's say to its centre: what a cell shows is mostly its own matter."""
    torch.nn.init.kaiming_normal_(weight, nonlinearity="linear")
    weight.mul_(0.3)
    torch.nn.init.normal_(weight[:, :, 1, 1, 1], std=weight.shape[1] ** -0.5)


def _identity(convolution: torch.nn.Conv3d) -> None:
    """The code as it is; the features beyond it are empty."""
    _clear(convolution)
    for channel in range(latents.CHANNELS):
        convolution.weight[channel, channel, 1, 1, 1] = 1


def _upsample_time(convolution: torch.nn.Conv3d) -> None:
    """Two frames of one: the mean of it and the one before (the first of all is dropped), then the frame itself."""
    _clear(convolution)
    for channel in range(convolution.in_channels):
        convolution.weight[2 * channel, channel, :2, 1, 1] = 0.5
        convolution.weight[2 * channel + 1, channel, 1, 1, 1] = 1


def _upsample_space(convolution: torch.nn.Conv3d, offset: float) -> None:
    """Four cells of one, whose centres lie ``offset`` pixels from its own along each axis."""
    _clear(convolution)
    for sub, (down, right) in enumerate(itertools.product((-1, 1), repeat=2)):
        whole = torch.eye(convolution.in_channels)
        whole[: latents.CHANNELS, : latents.CHANNELS] = latents.shifted(offset * right, offset * down)
        convolution.weight[sub::4, :, 1, 1, 1] = whole


def _mix(convolution: torch.nn.Conv3d, offset: float) -> None:
    """As :func:`_upsample_space`, but to half as many features, each a random mixture."""
    features = convolution.in_channels
    whole = torch.nn.Conv3d(features, 4 * features, 3)
    _upsample_space(whole, offset)
    mixture = torch.nn.init.orthogonal_(torch.empty(convolution.out_channels // 4, features))
    spread = whole.weight.reshape(features, 4, *whole.weight.shape[1:])
    _clear(convolution)
    convolution.weight.copy_(torch.einsum("of,fsixyz->osixyz", mixture, spread).flatten(0, 1))


def _clear(convolution: torch.nn.Conv3d) -> None:
    convolution.weight.zero_()
    assert convolution.bias is not None
    convolution.bias.zero_()


def audio_vae() -> Any:
    """The audio VAE of :mod:`training.sound`'s spectrograms."""
    return _new(
        AutoencoderKLLTX2Audio,
        base_channels=sound.LATENT_WIDTH,
        output_channels=2,
        ch_mult=(1, 2, 2),
        num_res_blocks=1,
        in_channels=2,
        latent_channels=sound.LATENT_CHANNELS,
        resolution=32,
        sample_rate=sound.SAMPLE_RATE,
        mel_hop_length=sound.HOP,
        mel_bins=sound.BINS,
        causality_axis="height",
        mid_block_add_attention=False,
    )


def vocoder() -> Any:
    """The vocoder: a bank of sines in closed form, see :func:`training.sound.write_vocoder`."""
    built = _new(
        LTX2Vocoder,
        in_channels=2 * sound.BINS,
        hidden_channels=32,
        out_channels=2,
        upsample_kernel_sizes=[2 * sound.HOP],
        upsample_factors=[sound.HOP],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1]],
        output_sampling_rate=sound.SAMPLE_RATE,
        act_fn="leaky_relu",
        final_act_fn="clamp",
    )
    with torch.no_grad():
        sound.write_vocoder(built)
    return built


def transformer() -> Any:
    """The denoiser. Its residual gates begin open, its output begins at zero."""
    width, heads, audio_width, audio_heads = 128, 4, 48, 2
    built = _new(
        LTX2VideoTransformer3DModel,
        in_channels=latents.CHANNELS,
        out_channels=latents.CHANNELS,
        num_attention_heads=heads,
        attention_head_dim=width // heads,
        cross_attention_dim=width,
        vae_scale_factors=(KEYFRAME_STEP, latents.CELL, latents.CELL),
        # The rotary embedding must turn visibly over a few cells and two seconds.
        base_height=128,
        base_width=128,
        pos_embed_max_pos=2,
        rope_theta=4.0,
        rope_double_precision=False,
        rope_type="split",
        audio_in_channels=sound.LATENT_WIDTH,
        audio_out_channels=sound.LATENT_WIDTH,
        audio_num_attention_heads=audio_heads,
        audio_attention_head_dim=audio_width // audio_heads,
        audio_cross_attention_dim=audio_width,
        audio_pos_embed_max_pos=2,
        audio_sampling_rate=sound.SAMPLE_RATE,
        audio_hop_length=sound.HOP,
        audio_scale_factor=4,
        num_layers=4,
        caption_channels=TEXT_WIDTH,
    )
    with torch.no_grad():
        for block in built.transformer_blocks:
            for table in (block.scale_shift_table, block.audio_scale_shift_table):
                table.zero_()
                table[2] = table[5] = 0.6
        for module in (built.time_embed, built.audio_time_embed):
            module.linear.weight.mul_(0.3)
            module.linear.bias.zero_()
        for module in (built.proj_out, built.audio_proj_out):
            module.weight.zero_()
            module.bias.zero_()
    return built


def scheduler() -> Any:
    """Flow matching with evenly spaced steps."""
    return _new(FlowMatchEulerDiscreteScheduler, use_dynamic_shifting=False, shift=1.0)


def text_encoder(vocabulary: int) -> Any:
    """A two-layer Gemma 3 over ``vocabulary`` words. Its vision tower is never called; the class demands one."""
    config = Gemma3Config(
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": TEXT_WIDTH,
            "intermediate_size": 2 * TEXT_WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 24,
            "query_pre_attn_scalar": 24,
            "sliding_window": 1024,
            "max_position_embeddings": 1024,
            "pad_token_id": 0,
            "eos_token_id": 1,
            "bos_token_id": 2,
        },
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 14,
            "patch_size": 14,
        },
        mm_tokens_per_image=1,
        image_token_index=3,
        boi_token_index=3,
        eoi_token_index=3,
    )
    built = _new(Gemma3ForConditionalGeneration, config=config)
    torch.nn.init.normal_(built.model.language_model.embed_tokens.weight, std=0.1)
    return built


def connectors() -> Any:
    """From the hidden states of the text encoder's three layers (the embedding is one) to what the denoiser attends."""
    heads = 4
    return _new(
        LTX2TextConnectors,
        caption_channels=TEXT_WIDTH,
        text_proj_in_factor=3,
        video_connector_num_attention_heads=heads,
        video_connector_attention_head_dim=TEXT_WIDTH // heads,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=heads,
        audio_connector_attention_head_dim=TEXT_WIDTH // heads,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        connector_rope_base_seq_len=SEQUENCE_LENGTH,
        rope_theta=20.0,
        rope_double_precision=False,
        rope_type="split",
    )


def _new(component: Any, **configuration: Any) -> Any:
    """An instance of a class of diffusers or transformers, which declare no types."""
    return component(**configuration)
