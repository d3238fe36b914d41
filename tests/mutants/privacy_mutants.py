"""Bugs that would void privacy or secrecy, each with the tests that must notice it."""

from tests.mutants.mutant import Mutant

_SAMPLER = (
    "tests/unit/agent/privacy/test_discrete_samplers.py",
    "tests/unit/agent/privacy/test_noise_mechanisms.py",
)
_ACCOUNTING = ("tests/unit/protocol/privacy/test_gaussian_dp.py",)
_RENYI = (
    "tests/unit/protocol/privacy/test_renyi_dp.py",
    "tests/unit/protocol/privacy/test_mechanisms.py",
)
_SEALING = (
    "tests/unit/protocol/crypto/test_sealed_blob.py",
    "tests/unit/coordinator/update/test_admission_checks.py",
)
_ENVELOPE = ("tests/unit/protocol/wire/test_envelope.py",)
_LIGHT = (
    "tests/unit/protocol/chain/test_light_client.py",
    "tests/unit/protocol/chain/test_validator_set_transitions.py",
)
_NOISE = ("tests/contract/trainer/test_trainer_noise.py",)
_CONFINED = ("tests/contract/trainer/test_sandbox.py", "tests/unit/sandbox")
_JOURNAL = ("tests/unit/durable",)
_RESPONSES = ("tests/unit/agent/privacy/test_label_ledger.py",)

_LAW = (
    Mutant(
        "offsets keep the bias of a remainder",
        "agent/privacy/discrete_samplers.py",
        "np.uint64((1 << 63) // scale * scale)",
        "np.uint64(1 << 63)",
        _SAMPLER,
    ),
    Mutant(
        "zero is drawn twice as often",
        "agent/privacy/discrete_samplers.py",
        "    usable &= ~(negative & (offsets == 0) & (jumps == 0))\n",
        "",
        _SAMPLER,
    ),
    Mutant(
        "close decisions are left to float64",
        "agent/privacy/discrete_samplers.py",
        "    for index in np.flatnonzero(unsure):",
        "    for index in np.flatnonzero(unsure)[:0]:",
        _SAMPLER,
    ),
    Mutant(
        "noise has a tenth of its scale",
        "agent/privacy/discrete_samplers.py",
        "    return _collect(_propose, scale, count, draw)",
        "    return _collect(_propose, max(1, scale // 10), count, draw)",
        _SAMPLER,
    ),
    Mutant(
        "noise is never negative",
        "agent/privacy/discrete_samplers.py",
        "    signed[negative] *= -1\n",
        "",
        _SAMPLER,
    ),
    Mutant(
        "Laplace jumps keep the ratio of the Gaussian's",
        "agent/privacy/discrete_samplers.py",
        "    jumps = _geometric(words[0], draw) // 2\n",
        "    jumps = _geometric(words[0], draw)\n",
        _SAMPLER,
    ),
)

_COSTS = (
    Mutant(
        "the slack for discrete noise is forgotten",
        "protocol/privacy/gaussian_dp.py",
        "    return gaussian_epsilon(mu, delta) + SLACK_PER_CHARGE * total",
        "    return gaussian_epsilon(mu, delta)",
        _ACCOUNTING,
    ),
    Mutant(
        "a charge is rounded down",
        "protocol/privacy/gaussian_dp.py",
        "    return -(-CHARGE_ONE * (windows * MICRO) ** 2 // sigma_micro**2)",
        "    return CHARGE_ONE * (windows * MICRO) ** 2 // sigma_micro**2",
        _ACCOUNTING,
    ),
    Mutant(
        "windows weigh once and not squared",
        "protocol/privacy/gaussian_dp.py",
        "    return -(-CHARGE_ONE * (windows * MICRO) ** 2 // sigma_micro**2)",
        "    return -(-CHARGE_ONE * windows * MICRO**2 // sigma_micro**2)",
        _ACCOUNTING,
    ),
    Mutant(
        "the second term of the curve is doubled",
        "protocol/privacy/gaussian_dp.py",
        "max(0.0, first - second)",
        "max(0.0, first - 2 * second)",
        _ACCOUNTING,
    ),
    Mutant(
        "a sampled step pays nothing for the grid",
        "protocol/privacy/renyi_dp.py",
        "    return _units(steps * (each + grid))",
        "    return _units(steps * each)",
        _RENYI,
    ),
    Mutant(
        "steps after the first are free",
        "protocol/privacy/renyi_dp.py",
        "    return _units(steps * (each + grid))",
        "    return _units(each + grid)",
        _RENYI,
    ),
    Mutant(
        "windows do not raise the sampling rate",
        "protocol/privacy/renyi_dp.py",
        "    rate = min(1.0, windows * sampling_micro / MICRO)",
        "    rate = sampling_micro / MICRO",
        _RENYI,
    ),
    Mutant(
        "a Renyi cost is rounded down",
        "protocol/privacy/renyi_dp.py",
        "else math.ceil(scaled)",
        "else math.floor(scaled * (1 - 1e-6))",
        _RENYI,
    ),
)

_SECRECY = (
    Mutant(
        "ephemeral keys are the same for all",
        "protocol/crypto/sealed_blob.py",
        'seed = H(b"starling/ephemeral/1", content_key)',
        'seed = H(b"starling/ephemeral/1")',
        _SEALING,
    ),
    Mutant(
        "a commitment is not compared",
        "protocol/crypto/sealed_blob.py",
        "if committed is not None and commitment(content_key, plaintext) != committed:",
        "if committed is None and commitment(content_key, plaintext) == committed:",
        _SEALING,
    ),
    Mutant(
        "a signature does not cover the sender",
        "protocol/wire/envelope.py",
        "encode([self.version, int(self.kind), self.sender, self.counter])",
        "encode([self.version, int(self.kind), b'', self.counter])",
        _ENVELOPE,
    ),
    Mutant(
        "a signature does not cover the chain",
        "protocol/wire/envelope.py",
        'return b"".join((TAG, chain_id, self._content))',
        'return b"".join((TAG, self._content))',
        _ENVELOPE,
    ),
    Mutant(
        "a header is believed without its certificate",
        "protocol/chain/light_client.py",
        "        check_certificate(certificate, self.chain_id, certifiers, "
        "self.fault_model)\n",
        "",
        _LIGHT,
    ),
    Mutant(
        "a header of strangers is believed",
        "protocol/chain/light_client.py",
        "        if header.validators != certifiers.digest():",
        "        if header.validators == b'':",
        _LIGHT,
    ),
    Mutant(
        "a key file may be read by others",
        "durable/files.py",
        "    if mode & _GROUP_OR_OTHERS:",
        "    if mode & 0:",
        _JOURNAL,
    ),
)

_DISK = (
    Mutant(
        "an entry is written and not synced",
        "durable/journal.py",
        "            os.fdatasync(self._descriptor)\n",
        "",
        _JOURNAL,
    ),
    Mutant(
        "a journal is open in two processes",
        "durable/journal.py",
        "    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        _JOURNAL,
    ),
)

_PROCESS = (
    Mutant(
        "random numbers of the trainer are known to everybody",
        "agent/trainer/worker.py",
        "os.urandom, rng, keep, notes.append)",
        "np.random.default_rng(0).bytes, rng, keep, notes.append)",
        _NOISE,
        quick=True,
    ),
)

_SANDBOX = (
    Mutant(
        "a trainer is not confined",
        "agent/trainer/worker.py",
        "    found = enter([Path(path) for path in readable(job)])",
        "    found = ConfinementReport(7, 1)",
        _CONFINED,
    ),
    Mutant(
        "a trainer reads the whole disk",
        "agent/trainer/worker.py",
        "enter([Path(path) for path in readable(job)])",
        'enter([Path("/")])',
        _CONFINED,
    ),
    Mutant(
        "a trainer may write",
        "sandbox/seccomp.py",
        "BitMask(2, _OPEN_TO_CHANGE)",
        "None",
        _CONFINED,
    ),
    Mutant(
        "calls that are not listed are allowed",
        "sandbox/seccomp.py",
        "    return (*steps, (_RETURN, 0, 0, _REFUSE))",
        "    return (*steps, (_RETURN, 0, 0, _ALLOW))",
        _CONFINED,
    ),
    Mutant(
        "a trainer makes children",
        "sandbox/seccomp.py",
        "BitMask(0, _CLONE_NEW, _CLONE_THREAD)",
        "None",
        _CONFINED,
    ),
    Mutant(
        "a trainer gets the agent's environment",
        "sandbox/child_process.py",
        "for name in _PASSED_ON if name in os.environ",
        "for name in os.environ",
        _CONFINED,
    ),
    Mutant(
        "a trainer's libraries print into the log",
        "agent/trainer/worker.py",
        "    hush()\n",
        "",
        _CONFINED,
    ),
    Mutant(
        "a cell of the data stands in the status",
        "agent/privacy/error_redaction.py",
        "            return type(error).__name__",
        "            return str(error)",
        ("tests/unit/agent/privacy/test_error_redaction.py",),
    ),
    Mutant(
        "data may lie around the home",
        "agent/runtime/assembly.py",
        "    _keep_apart(home, config)\n",
        "",
        ("tests/unit/agent/test_cli.py",),
    ),
    Mutant(
        "a home stays open to others",
        "agent/runtime/storage/agent_home.py",
        'return make_private(self.path, leave=("keys",))',
        "return []",
        ("tests/unit/agent/test_cli.py",),
    ),
)

_LABELS = (
    Mutant(
        "a label that was drawn is drawn again",
        "agent/privacy/label_ledger.py",
        "                if label not in answers and paid",
        "                if paid",
        _RESPONSES,
    ),
    Mutant(
        "a changed label pays nothing more",
        "agent/privacy/label_ledger.py",
        "        paid[drawn.twin] += epsilon_micro",
        "        paid[drawn.twin] = epsilon_micro",
        _RESPONSES,
    ),
    Mutant(
        "labels of other inputs are not counted",
        "agent/privacy/label_ledger.py",
        "return sum(self._most_micro(inputs) for inputs in others) + lost_micro",
        "return lost_micro",
        _RESPONSES,
    ),
    Mutant(
        "records stand in the order of their files",
        "agent/privacy/label_ledger.py",
        "        for record in sorted(groups):",
        "        for record in groups:",
        _RESPONSES,
    ),
    Mutant(
        "a label is kept too often",
        "protocol/privacy/randomised_response.py",
        "    return int(kept.to_integral_value(ROUND_FLOOR)) - 1",
        "    return int(kept.to_integral_value(ROUND_FLOOR)) + 1",
        ("tests/unit/protocol/privacy/test_randomised_response.py",),
    ),
    Mutant(
        "the trainer goes on before labels are kept",
        "agent/round/label_draws.py",
        "    step.emit(KeepLabels(batches), ResumeTraining())",
        "    step.emit(ResumeTraining(), KeepLabels(batches))",
        ("tests/unit/agent/round/test_label_draws.py",),
    ),
    Mutant(
        "labels are drawn whatever the owner declared",
        "agent/privacy/release_cost.py",
        "    if policy.epsilon_micro > allowed_micro:",
        "    if policy.epsilon_micro > allowed_micro and allowed_micro:",
        ("tests/unit/agent/round/test_label_draws.py",),
    ),
    Mutant(
        "exact labels are trained on",
        "agent/training/local_training.py",
        "    if not work.answered:",
        "    if False:",
        ("tests/unit/agent/training/test_label_correction.py",),
    ),
)

PRIVACY = (*_LAW, *_COSTS, *_SECRECY, *_DISK, *_PROCESS, *_SANDBOX, *_LABELS)
