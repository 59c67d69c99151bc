"""Encoders that were trained on natural images: they saw no patient, and know no tissue."""

from dataclasses import replace

from ml.encoders.spec import EncoderSpec

TIMM = "timm's model cards and pretrained configurations (huggingface/pytorch-image-models)"

_RESNET50 = EncoderSpec(
    name="resnet50",
    title="ResNet-50, ImageNet-1k",
    timm_name="resnet50",
    dim=2048,
    input_px=224,
    tile_um=112.0,
    licence="Apache-2.0",
    label="pretrained on natural images",
    vector_note="global average pool of the last stage (CLAM and TRIDENT take the third stage, 1,024 values: not the same vector)",
    repo="timm/resnet50.a1_in1k",
    file="model.safetensors",
    pretrained_on="ImageNet-1k, 1.3 million natural images",
    pretraining_overlap="no",
    million_parameters=23.5,
    citation="He et al., CVPR 2016; Wightman et al., arXiv:2110.00476",
    source=TIMM,
)

_VIT_S16 = replace(
    _RESNET50,
    name="vit-s16-imagenet",
    title="ViT-S/16, ImageNet-21k",
    timm_name="vit_small_patch16_224",
    dim=384,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    vector_note="CLS token",
    repo="timm/vit_small_patch16_224.augreg_in21k",
    pretrained_on="ImageNet-21k, 14 million natural images",
    million_parameters=21.7,
    citation="Steiner et al., TMLR 2022",
)

_DINOV2_S14 = replace(
    _VIT_S16,
    name="dinov2-s14",
    title="DINOv2 ViT-S/14",
    timm_name="vit_small_patch14_dinov2",
    timm_kwargs={"img_size": 224},
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    repo="timm/vit_small_patch14_dinov2.lvd142m",
    pretrained_on="LVD-142M, 142 million natural images",
    million_parameters=22.1,
    citation="Oquab et al., TMLR 2024",
    note="Released at 518 px; its position embedding is resampled to 224 px, as timm does.",
)

ENTRIES = (
    _RESNET50,
    _VIT_S16,
    _DINOV2_S14,
    replace(
        _DINOV2_S14,
        name="dinov2-s14-reg",
        title="DINOv2 ViT-S/14 with registers",
        timm_name="vit_small_patch14_reg4_dinov2",
        repo="timm/vit_small_patch14_reg4_dinov2.lvd142m",
        citation="Oquab et al., TMLR 2024; Darcet et al., ICLR 2024",
        note="Released at 518 px; its position embedding is resampled to 224 px (antialiased), as timm and the DINOv2 hub do. "
        "MICA's encoder of whole-slide marker maps, where a tile is the slide.",
    ),
    replace(
        _DINOV2_S14,
        name="dinov2-b14",
        title="DINOv2 ViT-B/14",
        timm_name="vit_base_patch14_dinov2",
        dim=768,
        repo="timm/vit_base_patch14_dinov2.lvd142m",
        million_parameters=86.6,
    ),
    replace(
        _DINOV2_S14,
        name="dinov2-l14",
        title="DINOv2 ViT-L/14",
        timm_name="vit_large_patch14_dinov2",
        dim=1024,
        repo="timm/vit_large_patch14_dinov2.lvd142m",
        million_parameters=304.4,
        precision="bf16",
    ),
)
