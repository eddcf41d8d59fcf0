"""Whether a method makes sense on a model and a prompt, from what both declare. No torch."""

from __future__ import annotations

from tokprof.errors import TokprofError, UnsupportedError
from tokprof.models.adapter import offered_needs
from tokprof.policies.base import Policy, Scene


def check_fit(policy: Policy, scene: Scene) -> None:
    """Raise with the reason where it does not."""
    missing = policy.needs - offered_needs(scene.model, scene.layout)
    if missing:
        what = " and ".join(sorted(need.value for need in missing))
        raise UnsupportedError(
            f"{policy.name} needs {what}, which {scene.model.name} does not offer here",
            "`tokprof methods --matrix` shows what works where",
        )
    policy.check(scene.seen_by(policy))


def refusal(policy: Policy, scene: Scene) -> str:
    """Why not, in short; empty if it works."""
    try:
        check_fit(policy, scene)
    except TokprofError as error:
        return error.message.removeprefix(f"{policy.name}: ").removeprefix(f"{policy.name} ").partition(", which")[0]
    return ""
