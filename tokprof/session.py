"""One loaded model: prepares each workload once and measures policy after policy on it."""

from __future__ import annotations

import gc
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import torch

from tokprof import __version__, policies
from tokprof.accuracy.exam import Exam
from tokprof.accuracy.questions import bundled_questions
from tokprof.arms import ArmFacts, fidelity_between, measured_arm
from tokprof.engine.parity import check_parity
from tokprof.environment import machine_warnings, snapshot, state_reader
from tokprof.errors import BrokenPromiseError, MachineError, TokprofError
from tokprof.measure.clock import Clock, CudaClock, HostClock
from tokprof.measure.heap import keep_freed_memory
from tokprof.measure.sampling import sample_pair
from tokprof.measure.turns import turns_of_this_process
from tokprof.models import load
from tokprof.policies.base import Policy
from tokprof.record import Inputs, ModelFacts, Parity, RunRecord, cell_key
from tokprof.resolve import Ready, scaled
from tokprof.sources import model_source

if TYPE_CHECKING:
    from tokprof.models.adapter import Prepared
    from tokprof.models.huggingface import HuggingFaceAdapter
    from tokprof.profiler import Listener
    from tokprof.recipe import Setting

DEVICE_FAILED = "CUDA error"  # what every such exception of torch says; it has no class of its own before 2.8


class Session:
    def __init__(self, ready: Ready, listener: Listener) -> None:
        release_memory()
        cell = ready.cell
        self.model, self.setting, self.device, self.listener = cell.model, cell.setting, ready.device, listener
        if not self.device.startswith("cuda"):
            keep_freed_memory()
        self.environment = snapshot(self.device, ready.dtype)
        listener.on_stage(f"loading {self.model}", 0)
        self.adapter: HuggingFaceAdapter = load(
            self.model,
            weights=self.setting.weights,
            device=self.device,
            dtype=getattr(torch, ready.dtype),
            attention=self.setting.attention,
            seed=cell.workload.seed,
        )
        self.model_source = model_source(cell)
        for note in self.adapter.notes:
            listener.on_note(note)
        self._bench: Bench | None = None
        self._exams: dict[tuple[int, bool], Exam | None] = {}
        self.current_stage = "loading"

    def serves(self, ready: Ready) -> bool:
        return ready.cell.model == self.model and _loaded_alike(ready.cell.setting, self.setting)

    def measure(self, ready: Ready) -> RunRecord:
        try:
            if self._bench is None or not self._bench.serves(ready):
                self._bench = None
                self._bench = Bench(self, ready)
            return self._bench.measure(ready)
        except torch.OutOfMemoryError as error:
            self._bench = None
            release_memory()
            raise MachineError(
                f"out of memory on {self.device} in {self.current_stage} "
                f"({ready.cell.method.name}, batch {ready.cell.workload.batch})",
                "lower --batch, --new-tokens or --image-size, or take a smaller model or dtype",
            ) from error
        except RuntimeError as error:
            said = str(error).partition("\n")[0]
            if DEVICE_FAILED not in said:
                raise
            raise MachineError(
                f"{self.device} failed in {self.current_stage} ({ready.cell.method.name}): {said}",
                "see whether it is still there (nvidia-smi, dmesg), then run again: what was finished is written",
            ) from error

    def exam(self, ready: Ready) -> Exam | None:
        """The questions that the recipe asks for, unless this model's answers would mean nothing."""
        count, official = ready.cell.measurement.accuracy, _official(ready)
        if count and (count, official) not in self._exams:
            self._exams[count, official] = None
            if self.adapter.trained:
                asked = bundled_questions(count, ready.entry)
                self._exams[count, official] = Exam(self.adapter, asked, official_scores=official)
            else:
                self.listener.on_note(f"{self.model}: no accuracy, since answers of random weights mean nothing")
        return self._exams.get((count, official))

    def stage(self, stage: str, rounds: int = 0) -> None:
        self.current_stage = stage
        self.listener.on_stage(stage, rounds)


class Bench:
    """One workload on the session's model: inputs, parity and the dense answer, shared by all policies."""

    def __init__(self, session: Session, ready: Ready) -> None:
        self.session, self.adapter, self.workload = session, session.adapter, ready.cell.workload
        session.stage("preparing inputs")
        self.prepared: Prepared = self.adapter.prepare(self.workload)
        self.clock: Clock = CudaClock() if session.device.startswith("cuda") else HostClock()
        dense = policies.build("dense")
        self.parity_wanted = ready.cell.measurement.parity
        self.parity = Parity(checked=False)
        if self.parity_wanted:
            session.stage("parity with the model's own forward")
            shown = check_parity(self.adapter, dense, self.prepared, attention=self.adapter.attention)
            self.parity = Parity(checked=True, relative_error=shown.relative_error, greedy_equal=shown.greedy_equal)
        self.dense = self._checked(dense, self.prepared, official=False)

    def serves(self, ready: Ready) -> bool:
        return ready.cell.workload == self.workload and ready.cell.measurement.parity == self.parity_wanted

    def measure(self, ready: Ready) -> RunRecord:
        policy, measurement, session = ready.policy, ready.cell.measurement, self.session
        session.stage(f"{policy.name}: checking its promises")
        facts = self._checked(policy, self._inputs_for(policy), official=_official(ready))
        turns = turns_of_this_process()
        if session.device == "cpu" and torch.get_num_threads() == 1:
            turns.share_core()
        samples = sample_pair(
            self.dense.round,
            facts.round,
            measurement,
            clock=self.clock,
            state=state_reader(session.device),
            progress=lambda phase, rounds: session.stage(f"{policy.name}: {phase}", rounds),
            turns=turns,
        )
        session.stage(f"{policy.name}: memory and activity")
        baseline = measured_arm(self.dense, samples.baseline, measurement)
        arm = measured_arm(facts, samples.policy, measurement)
        fidelity = fidelity_between(self.dense.outcome, facts.outcome)
        exam = session.exam(ready)
        if exam:
            session.stage(f"{policy.name}: questions")
            baseline = baseline.model_copy(update={"accuracy": exam.dense})
            arm = arm.model_copy(update={"accuracy": exam.taken_by(policy)})
        environment = session.environment.model_copy(update={"rounds_state": samples.rounds_state})
        return RunRecord(
            tokprof_version=__version__,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            key=cell_key(ready.cell),
            cell=ready.cell,
            model=self._model_facts(policy),
            inputs=self._inputs(),
            environment=environment,
            parity=self.parity,
            baseline=baseline,
            policy=arm.model_copy(update={"fidelity": fidelity}),
            baseline_again_ms=samples.baseline_again_ms,
            warnings=(*machine_warnings(environment), *samples.warnings, *self._remarks(policy)),
            sources={**ready.sources, "model": session.model_source},
        )

    def _inputs_for(self, policy: Policy) -> Prepared:
        """Policies share the dense model's inputs; one that wants smaller pictures gets its own."""
        workload = scaled(self.workload, policy, self.prepared.scene)
        return self.prepared if workload is self.workload else self.adapter.prepare(workload)

    def _checked(self, policy: Policy, prepared: Prepared, *, official: bool) -> ArmFacts:
        try:
            return ArmFacts.checked(
                self.adapter,
                policy,
                prepared,
                self.workload.new_tokens,
                official_scores=official,
                device=self.session.device,
            )
        except (TokprofError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # the unpruned model has run on these inputs before
            if not policies.is_own_file(policy):
                raise
            raise BrokenPromiseError(
                f"{policies.place_in_own_file(error) or policy.name}: {type(error).__name__}: {error}",
                "docs/adding-a-method.md says what each of a policy's methods returns",
            ) from error

    def _remarks(self, policy: Policy) -> list[str]:
        remarks = []
        if policy.data_decided and self.workload.batch > 1:
            remarks.append(f"{policy.name} acts on a batch only when all its samples agree")
        if policy.data_decided and not self.adapter.trained:
            remarks.append(f"{policy.name} decides by the data, and these weights are random: its choice means nothing")
        if policy.training_based:
            remarks.append(f"{policy.name} needs weights trained with it; here only its cost means something")
        return remarks

    def _model_facts(self, policy: Policy) -> ModelFacts:
        shape, adapter = self.adapter.shape, self.adapter
        return ModelFacts(
            name=shape.name,
            family=shape.family,
            weights=adapter.weights,
            trained=adapter.trained,
            parameters=sum(parameter.numel() for parameter in adapter.model.parameters()),
            dtype=str(adapter.decoder.parameters_dtype()).removeprefix("torch."),
            attention=adapter.attention,
            depth=shape.decoder.depth,
            width=shape.decoder.width,
            training_based=policy.training_based,
        )

    def _inputs(self) -> Inputs:
        prepared = self.prepared
        return Inputs(
            description=prepared.description,
            image_sizes=prepared.image_sizes,
            frames=prepared.frames,
            prompt=prepared.prompt,
            text=prepared.scene.text,
            visual=prepared.layout.count,
            batch=prepared.batch,
            new_tokens=self.workload.new_tokens,
            tower_passes=prepared.layout.tower_passes,
            sha256=prepared.sha256,
            preprocess_ms=prepared.preprocess_ms,
        )


def _official(ready: Ready) -> bool:
    return ready.cell.setting.scores == "eager"


def _loaded_alike(first: Setting, second: Setting) -> bool:
    """Whether one loaded model serves both."""
    return first.model_copy(update={"scores": second.scores}) == second


def release_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
