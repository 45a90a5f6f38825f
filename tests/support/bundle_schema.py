"""What the MONAI Bundle Specification asks of a bundle's metadata, as a JSON schema.

Written from the lists of fields in MONAI's documentation (``mb_specification``), for machines without a network: there,
`monai.bundle verify_metadata` cannot download the schema that the metadata names, and takes this file in its place.
"""

from __future__ import annotations

import json
from pathlib import Path

TEXTS = ("schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors")
OTHER_TEXTS = (
    "copyright",
    "data_source",
    "data_type",
    "image_classes",
    "label_classes",
    "pred_classes",
    "intended_use",
)
OBJECTS = ("changelog", "required_packages_version", "eval_metrics", "supported_apps")


def kind(name, **more):
    return {"type": name} | more


SHAPE = kind("array", items=kind(["string", "integer"]))
TENSOR_FIELDS = {
    "type": kind("string"),
    "format": kind("string"),
    "num_channels": kind("integer"),
    "spatial_shape": SHAPE,
    "dtype": kind("string"),
    "value_range": kind("array", items=kind("number")),
}
TENSOR = kind(
    "object",
    properties=TENSOR_FIELDS | {"is_patch_data": kind("boolean"), "channel_def": kind("object")},
    required=list(TENSOR_FIELDS),
)
TENSORS = kind("object", additionalProperties=TENSOR, minProperties=1)
SCHEMA = kind(
    "object",
    properties={
        **{name: kind("string", minLength=1) for name in TEXTS + OTHER_TEXTS},
        **{name: kind("object") for name in OBJECTS},
        "references": kind("array", items=kind("string")),
        "network_data_format": kind(
            "object", properties={"inputs": TENSORS, "outputs": TENSORS}, required=["inputs", "outputs"]
        ),
    },
    required=[*TEXTS, "copyright", "required_packages_version", "network_data_format"],
)


def write_schema(path: Path) -> Path:
    path.write_text(json.dumps(SCHEMA))
    return path
