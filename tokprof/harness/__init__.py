"""The field's harness: every policy as a model of lmms-eval, and hence on each of its benchmarks.

lmms-eval finds `manifest` by the entry point `lmms_eval.models`:

    python -m lmms_eval --model tokprof --model_args pretrained=llava-next-7b,method=todre,keep=0.1 --tasks pope
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest


def manifest() -> ModelManifest:
    """Called by lmms-eval while it gathers its models, hence without the model itself."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="tokprof", simple_class_path=f"{__name__}.model.Tokprof")
