"""Bugs that would let a graph, a record or a clock tell more than is charged."""

from tests.mutants.mutant import Mutant

_SUM = (
    "tests/unit/agent/training/test_sensitivity.py",
    "tests/unit/agent/training/test_gradient_clipping.py",
    "tests/unit/agent/training/test_local_training.py",
    "tests/unit/agent/training/test_trusted_graph_clipping.py",
)
_RADIUS = ("tests/unit/agent/privacy/test_noise_mechanisms.py", *_SUM)
_GRID = ("tests/unit/protocol/privacy/test_noise_grid.py",)
_DATA = ("tests/unit/agent/trainer/test_dataset.py",)
_CORE = ("tests/unit/agent/test_machine.py",)
_FAILED = ("tests/unit/agent/test_failed_trainings.py",)
_RELEASE = ("tests/unit/agent/round/test_release_time.py",)
_TRAINER = ("tests/contract/trainer/test_trainer_process.py",)
_ALIKE = ("tests/contract/trainer/test_indistinguishable_boards.py",)

CLIPPING = (
    Mutant(
        "a gradient is clipped at ten times the clip",
        "agent/training/gradient_clipping.py",
        "self._clip, self._bound = clip, clip.clip_q24 / Q24",
        "self._clip, self._bound = clip, 10 * clip.clip_q24 / Q24",
        _SUM,
    ),
    Mutant(
        "a sum is rounded once, and not record by record",
        "agent/training/gradient_clipping.py",
        "        np.rint(row, out=row)\n",
        "",
        _SUM,
    ),
    Mutant(
        "a record on which the engine fails stops the sum",
        "agent/training/gradient_clipping.py",
        "            found.skip()\n    work.mark(None)",
        "            raise\n    work.mark(None)",
        _SUM,
    ),
    Mutant(
        "a gradient that is not finite is added",
        "agent/training/gradient_clipping.py",
        "        if not math.isfinite(square):",
        "        if math.isnan(square) and self._count < 0:",
        _SUM,
    ),
    Mutant(
        "only as many records as were pledged count",
        "agent/training/local_training.py",
        "    found = clipped_sum(at, work, range(len(work.x)), clip)",
        "    most = min(len(work.x), order.pledge)\n"
        "    found = clipped_sum(at, work, range(most), clip)",
        _SUM,
    ),
    Mutant(
        "a sum is as long as it likes",
        "agent/privacy/noise_mechanisms.py",
        "    if squared <= most * most:",
        "    if squared >= 0:",
        _RADIUS,
    ),
    Mutant(
        "rounding of shortened sums is not charged",
        "protocol/privacy/noise_grid.py",
        "math.ceil(clip_steps) + 2 * _root_up(dimension)",
        "math.ceil(clip_steps) + _root_up(dimension)",
        _GRID,
    ),
    Mutant(
        "a trusted graph gets the whole clip",
        "agent/training/trusted_graph_clipping.py",
        "TRUSTED_SHARE = 1.0 - 2.0**-9",
        "TRUSTED_SHARE = 1.0 + 2.0**-9",
        _SUM,
    ),
    Mutant(
        "data are read before they are paid for",
        "agent/trainer/worker.py",
        "        self._pipe.report(TrainerReportKind.READY)\n",
        "        early = data_of(job, trainer)\n"
        "        globals()['data_of'] = lambda job, trainer: early\n"
        "        self._pipe.report(TrainerReportKind.READY)\n",
        _TRAINER,
    ),
    Mutant(
        "one bad line of a file spoils it",
        "records/formats/csv_pieces.py",
        "        faults.append(DataError(detail, file=file, row=number))",
        "        raise ValueError",
        _DATA,
    ),
    Mutant(
        "a complaint holds the value",
        "agent/trainer/dataset.py",
        "                said.about(fault.unquoted)\n                # Names",
        "                said.about(str(fault))\n                # Names",
        _DATA,
    ),
    Mutant(
        "a failure after the charge loses the update",
        "agent/round/participation.py",
        "    if training.running and noised and not training.empty:",
        "    if training.running and noised and training.skipped:",
        _FAILED,
    ),
    Mutant(
        "a crash at one record empties the sum",
        "agent/round/participation.py",
        "    if record is None or record in skipped or len(skipped) >= SKIPPED_MAX:",
        "    if True:",
        _FAILED,
    ),
    Mutant(
        "the pledge is sent as it is written, whatever is offered",
        "agent/round/readiness.py",
        "    return offer.spec.pledge_for(settings.pledge)",
        "    return settings.pledge",
        _CORE,
    ),
    Mutant(
        "an update leaves when it is finished",
        "agent/round/release_time.py",
        "    if training is not None and step.now_s >= training.release_s:",
        "    if training is not None:",
        _RELEASE,
    ),
    Mutant(
        "a late update leaves at once",
        "agent/round/release_time.py",
        "    while step.now_s >= at_s:",
        "    while step.now_s >= at_s and step.now_s < 0:",
        _RELEASE,
    ),
    Mutant(
        "the number of records is told before the charge",
        "agent/trainer/worker.py",
        "        self._pipe.report(TrainerReportKind.LOADED)",
        "        self._pipe.report(TrainerReportKind.LOADED, found=data_of(job, trainer)[0].facts())",
        _TRAINER,
    ),
    Mutant(
        "a class that the model lacks stops the board",
        "agent/trainer/worker.py",
        "        data, said = data_of(job, trainer)\n",
        "        data, said = data_of(job, trainer)\n"
        "        if data.complaints.unusable:\n"
        "            raise SystemExit(1)\n",
        _ALIKE,
    ),
)
