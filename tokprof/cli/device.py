"""`tokprof device`: the machine, what it can do at most, and what may disturb a measurement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tokprof.record import Environment


def register(app: typer.Typer) -> None:
    app.command()(device)


def device(
    name: Annotated[str, typer.Argument(metavar="[DEVICE]", help="auto, cpu, cuda or cuda:1.")] = "auto",
    dtype: Annotated[str | None, typer.Option(help="Of the matrix product; default: the usual one.")] = None,
    ceilings: Annotated[bool, typer.Option(help="Measure what it can do at most.")] = True,
) -> None:
    """Show the machine, its measured ceilings, and what may disturb a measurement."""
    from tokprof.environment import machine_warnings, snapshot
    from tokprof.errors import ParameterError
    from tokprof.measure.ceilings import DTYPES, USUAL_DTYPE, measure_ceilings, store_ceilings
    from tokprof.resolve import chosen_device

    chosen = chosen_device(name)
    dtype = dtype or USUAL_DTYPE[chosen.partition(":")[0]]
    if dtype not in DTYPES:
        raise ParameterError(f"--dtype {dtype!r}", f"one of {', '.join(DTYPES)}")
    environment = snapshot(chosen, dtype)
    if ceilings:
        measured = measure_ceilings(chosen, dtype)
        store_ceilings(environment.device.name, measured)
        environment = environment.model_copy(update={"ceilings": measured})
    for word, value in facts(environment):
        print(f"{word:14} {value}")
    found = machine_warnings(environment)
    print("\n".join(f"warning: {warning}" for warning in found) or "nothing found that would disturb a measurement")


def facts(environment: Environment) -> list[tuple[str, str]]:
    """What there is to say, in order; what is not known is left out."""
    from tokprof import units

    found, ceilings = environment.device, environment.ceilings
    libraries = ", ".join(f"{name} {version}" for name, version in environment.libraries.items())
    clock = None
    if found.sm_clock_mhz is not None:
        clock = f"{found.sm_clock_mhz} of {found.sm_clock_max_mhz or units.MISSING} MHz"
    facts = [
        ("device", "CPU" if found.kind == "cpu" else found.name),
        ("processor", f"{environment.cpu}, {environment.cores} cores"),
        ("threads", found.threads),
        ("memory", units.bytes_(found.memory_bytes)),
        ("driver", found.driver),
        ("CUDA", f"{found.cuda}, capability {found.capability}" if found.cuda else None),
        ("SM clock", clock),
        ("power", f"{found.power_w:.0f} W" if found.power_w is not None else None),
        ("temperature", f"{found.temperature_c:.0f} °C" if found.temperature_c is not None else None),
        ("held back by", ", ".join(found.throttle) or None),
        ("others on it", found.other_processes),
        ("load", f"{environment.load_average:.1f}" if environment.load_average is not None else None),
        ("system", f"{environment.os}, Python {environment.python}"),
        ("libraries", libraries),
    ]
    if ceilings is not None:
        facts.append(("at most", f"{units.operations(ceilings.flops_per_s)}/s in {ceilings.dtype} ({ceilings.source})"))
        facts.append(("", f"{units.bytes_(ceilings.bytes_per_s)}/s read and written"))
    return [(word, str(value)) for word, value in facts if value is not None]
