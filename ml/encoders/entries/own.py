"""Encoders that need no weights from elsewhere."""

from ml.encoders.spec import EncoderSpec

ENTRIES = (
    EncoderSpec(
        name="he-descriptors",
        title="Fixed H&E descriptors",
        network="descriptors",
        dim=32,
        input_px=112,
        tile_um=112.0,
        licence="Apache-2.0",
        label="fixed descriptors, nothing trained",
        vector_note="10 of morphology, 10 stain quantiles, 6 of colour, 6 of texture, each with a name",
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
        label="untrained: trained together with its head",
        vector_note="global average pool",
        pretrained_on="nothing",
        pretraining_overlap="no",
        needs_weights=False,
        source="ml.hex",
    ),
)
