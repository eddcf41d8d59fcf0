"""Damaged result files: read whole, refused with a reason, and never judged wrongly."""

from __future__ import annotations

import json
import os
import random
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.records import make_record
from tokprof import atomic
from tokprof.errors import InputError, RecordError
from tokprof.gate.verdicts import verdict
from tokprof.record import SCHEMA_VERSION, RecordFile, RunRecord, read_records, records_as_json, write_records
from tokprof.report.compare import compare

MUTATIONS = 2000
ODD_VALUES = 400
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1e308, -0.0, 10**400, "", "NaN", "\x00", [], {}, [[]], float("nan"), float("inf"),
)  # fmt: skip


@pytest.fixture(scope="module")
def text() -> str:
    records = (make_record(rounds=8, depth=4), make_record("todre", rounds=8, depth=4))
    return RecordFile(records=records).model_dump_json(indent=1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The width of an interval is not what is tested here."""
    monkeypatch.setattr("tokprof.measure.stats.RESAMPLES", 10)


def read(path: Path, content: bytes) -> RecordFile | None:
    """What the reader makes of it; anything but a record or a RecordError with a hint is a failure of ours."""
    path.write_bytes(content)
    try:
        return read_records(path)
    except RecordError as error:
        assert error.message and error.hint and "\n" not in error.hint
        return None


def changed_bytes(content: bytes, draw: random.Random) -> bytes:
    """Cut off, cut out, doubled, overwritten."""
    first, second = sorted(draw.randrange(len(content)) for _ in range(2))
    garbage = bytes(draw.randrange(256) for _ in range(draw.randrange(1, 20)))
    return draw.choice(
        (
            content[:first],
            content[:first] + content[second:],
            content[:second] + content[first:],
            content[:first] + garbage + content[first + len(garbage) :],
        )
    )


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*here, key)
        yield from places(value[key], (*here, key))


def judged_rightly(before: RunRecord, after: RunRecord) -> None:
    """Whatever the gate and the comparison say of a record that survived, its plain facts bear out."""
    compared, outcome = compare(before, after), verdict([before], [after], tier=2)
    assert outcome.exit_code in (0, 1, 3)
    same_counts = all(
        (first.tokens.per_layer, first.flops, first.activity)
        == (second.tokens.per_layer, second.flops, second.activity)
        for first, second in ((before.policy, after.policy), (before.baseline, after.baseline))
    )
    times = after.policy.samples.total_ms()
    if outcome.answer == "pass":
        assert same_counts and min(times) > 0
        assert statistics.median(times) <= 1.02 * statistics.median(before.policy.samples.total_ms())
        assert before.environment.device.name == after.environment.device.name
    if outcome.answer == "regressed" and same_counts:
        bytes_differ = [arm.memory for arm in (before.policy, before.baseline)] != [
            arm.memory for arm in (after.policy, after.baseline)
        ]
        assert bytes_differ or any(found.answer == "regressed" and found.tier == 2 for found in outcome.findings)
    if compared.verdict == "SAME":
        assert statistics.median(times) == pytest.approx(statistics.median(before.policy.samples.total_ms()), rel=0.01)


def test_thousands_of_damaged_files_are_refused(tmp_path: Path) -> None:
    """Bytes changed anywhere: a RecordError, or nothing that matters had changed."""
    draw, path = random.Random(0), tmp_path / "damaged.json"
    records = (make_record(rounds=8, depth=4), make_record("todre", rounds=8, depth=4))
    content = records_as_json(records).encode()
    found = [read(path, changed_bytes(content, draw)) for _ in range(MUTATIONS)]
    assert sum(each is None for each in found) > MUTATIONS / 2
    assert all(each.records == records for each in found if each is not None)


def test_thousands_of_damaged_files_without_a_checksum(text: str, tmp_path: Path, quick: None) -> None:
    """What survives without one is judged by what it says."""
    draw, path, survived = random.Random(0), tmp_path / "damaged.json", 0
    whole = make_record(rounds=8, depth=4)
    for _ in range(MUTATIONS):
        found = read(path, changed_bytes(text.encode(), draw))
        if found is not None and found.records:
            survived += 1
            judged_rightly(whole, found.records[0])
    assert 20 < survived < MUTATIONS / 2


def test_every_field_with_an_odd_value(text: str, tmp_path: Path, quick: None) -> None:
    """JSON that is sound, with one value that is not: refused, or compared without a verdict it did not earn."""
    draw, path, whole = random.Random(1), tmp_path / "odd.json", json.loads(text)
    everywhere = list(places(whole["records"][0], ("records", 0)))
    before = make_record(rounds=8, depth=4)
    for _ in range(ODD_VALUES):
        place, odd = draw.choice(everywhere), draw.choice(ODD)
        damaged = json.loads(text)
        inside = damaged
        for key in place[:-1]:
            inside = inside[key]
        inside[place[-1]] = odd
        found = read(path, json.dumps(damaged).encode())
        if found is not None:
            judged_rightly(before, found.records[0])
            compare(before, found.records[0], force=True)


@pytest.mark.parametrize(
    "content,says",
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[" * 100_000, "not JSON"),
        (b"null", "not a result file"),
        (b'{"kind": "tokprof.calibration"}', "not a result file"),
        (b'{"kind": "tokprof.records", "schema_version": 1, "records": 3}', "records"),
    ],
)
def test_what_is_no_result_file_is_told_so(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(RecordError, match=says):
        read_records(tmp_path / "x.json")


@pytest.mark.parametrize(
    "version,remedy", [(SCHEMA_VERSION + 1, "update"), (0, "measure again"), ("2", "measure again")]
)
def test_other_schema_versions_are_refused_with_a_remedy(version: Any, remedy: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"kind": "tokprof.records", "schema_version": version, "records": []}))
    with pytest.raises(RecordError) as refused:
        read_records(path)
    assert remedy in refused.value.hint


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="cannot be read"):
        read_records(tmp_path)


def test_numbers_survive_to_the_last_digit(tmp_path: Path) -> None:
    before = make_record()
    write_records(tmp_path / "x.json", [before])
    assert read_records(tmp_path / "x.json").records == (before,)


def test_nan_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="finite"):
        RunRecord.model_validate({**make_record().model_dump(), "baseline_again_ms": [float("nan")]})


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    write_records(path, [make_record()])
    old = path.read_text()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(InputError, match="No space left") as refused:
        write_records(path, [make_record("todre")])
    assert refused.value.hint
    assert path.read_text() == old and list(tmp_path.iterdir()) == [path]


FULL = """
import resource, sys
from pathlib import Path
from tests.records import make_record
from tokprof.errors import InputError
from tokprof.record import write_records
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_records(Path(sys.argv[1]), [make_record("todre")])
except InputError as error:
    print(error.message, error.hint)
"""


def test_a_file_that_may_not_grow_is_left_as_it_was(tmp_path: Path) -> None:
    """The system itself refuses, in the middle of the text."""
    path = tmp_path / "x.json"
    write_records(path, [make_record()])
    old = path.read_text()
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert "cannot write" in done.stdout and "free some space" in done.stdout, done.stderr
    assert path.read_text() == old and list(tmp_path.iterdir()) == [path]


def test_a_read_only_folder() -> None:
    """In a child that is not root, since root may write anywhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR | stat.S_IROTH | stat.S_IXOTH)
        child = os.fork()
        if child == 0:
            said = 1
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)
                write_records(folder / "x.json", [make_record()])
            except InputError as error:
                said = 0 if "cannot write" in error.message and error.hint else 2
            finally:
                os._exit(said)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        folder.chmod(stat.S_IRWXU)
        assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_records(tmp_path / "file" / "x.json", [make_record()])


WRITER = """
import sys
from pathlib import Path
from tests.records import make_record
from tokprof.record import write_records
records = []
while True:
    records.append(make_record(seed=len(records), rounds=30))
    write_records(Path(sys.argv[1]), records)
    print(len(records), flush=True)
"""


def test_killed_at_any_moment_every_finished_record_is_there(tmp_path: Path) -> None:
    path, draw = tmp_path / "x.json", random.Random(0)
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(draw.uniform(0.0, 0.1))
        child.kill()
        finished = [int(line) for line in child.stdout.read().split()]
        child.wait()
        assert len(read_records(path).records) >= max(finished, default=1)
