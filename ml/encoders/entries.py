"""The entries of the catalogue, in the order in which they are listed."""

from __future__ import annotations

from ml.encoders.spec import EncoderSpec

OWN = (
    EncoderSpec(
        name="he-descriptors",
        title="Fixed H&E descriptors",
        network="descriptors",
        dim=32,
        input_px=112,
        tile_um=112.0,
        licence="Apache-2.0",
        commercial=True,
        label="fixed descriptors, nothing trained",
        vector_note="10 morphology descriptors, 10 stain quantiles, 6 colour and 6 texture values, all declared by name",
        pretrained_on="nothing",
        pretraining_overlap="no",
        needs_weights=False,
        source="ml.encoders.descriptors",
    ),
    EncoderSpec(
        name="compact-resnet-48",
        title="Narrow ResNet-10 of timm, 48 px",
        timm_name="resnet10t",
        timm_kwargs={"channels": (24, 48, 96, 128), "stem_width": 16},
        dim=128,
        input_px=48,
        tile_um=56.0,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        licence="Apache-2.0",
        commercial=True,
        label="untrained: trained together with its head",
        vector_note="global average pool",
        pretrained_on="nothing",
        pretraining_overlap="no",
        needs_weights=False,
        source="ml.hex",
    ),
)

ELSEWHERE = (
    EncoderSpec(
        name="resnet50",
        title="ResNet-50, ImageNet-1k",
        timm_name="resnet50",
        dim=2048,
        input_px=224,
        tile_um=112.0,
        licence="Apache-2.0",
        label="pretrained on natural images",
        pretraining_overlap="no",
        repo="timm/resnet50.a1_in1k",
        file="model.safetensors",
    ),
    EncoderSpec(
        name="h-optimus-0",
        title="H-optimus-0, ViT-g/14 on H&E",
        timm_name="vit_giant_patch14_reg4_dinov2",
        timm_kwargs={"img_size": 224, "init_values": 1e-5, "dynamic_img_size": False},
        dim=1536,
        input_px=224,
        tile_um=112.0,
        mean=(0.707223, 0.578729, 0.703617),
        std=(0.211883, 0.230117, 0.177517),
        licence="Apache-2.0",
        label="pretrained on H&E slides",
        repo="bioptimus/H-optimus-0",
        file="pytorch_model.bin",
    ),
    EncoderSpec(
        name="uni",
        title="UNI, ViT-L/16 on H&E",
        timm_name="vit_large_patch16_224",
        timm_kwargs={"img_size": 224, "patch_size": 16, "init_values": 1e-5, "dynamic_img_size": True},
        dim=1024,
        input_px=224,
        tile_um=112.0,
        licence="CC-BY-NC-ND-4.0",
        label="pretrained on H&E slides",
        gated=True,
        repo="MahmoodLab/UNI",
        file="pytorch_model.bin",
    ),
)

ENTRIES: tuple[EncoderSpec, ...] = (*OWN, *ELSEWHERE)
