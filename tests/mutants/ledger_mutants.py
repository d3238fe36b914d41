"""Bugs in paying for releases: budgets that are passed, forgotten or paid too late."""

from tests.mutants.mutant import Mutant

_LEDGER = ("tests/unit/agent/privacy/test_ledger.py",)
_STATEMENTS = ("tests/unit/agent/sync/test_ledger_reconciliation.py",)
_MANIFESTS = ("tests/unit/agent/sync/test_manifest_check.py",)
_RIM = ("tests/unit/agent/runtime/privacy_ledger/test_ledger_integrity.py",)
_PROCESS = ("tests/e2e/agent/test_agent_process.py",)

_BUDGET = (
    Mutant(
        "the cap is for one task and not for all",
        "agent/privacy/ledger.py",
        "return lineage_room, release_quote(self.cap, noisy, wanted)",
        "return lineage_room, release_quote(self.cap, own, wanted)",
        _LEDGER,
    ),
    Mutant(
        "a task may spend the whole cap",
        "agent/privacy/ledger.py",
        "        return lineage_room, release_quote(self.cap, noisy, wanted)",
        "        return (release_quote(self.cap, noisy, wanted),)",
        _LEDGER,
    ),
    Mutant(
        "one base version is paid for twice",
        "agent/privacy/ledger.py",
        "        if slot in self.charges:\n            detail = ",
        "        if slot in ():\n            detail = ",
        _LEDGER,
    ),
    Mutant(
        "release without noise is forgotten",
        "agent/privacy/ledger.py",
        "        return any(paid.is_exposed for paid in self.paid)",
        "        return False",
        _LEDGER,
    ),
    Mutant(
        "a mixture is bounded by its best order",
        "agent/privacy/release_cost.py",
        "        rooms.append(ReleaseQuote(max(0, left), wanted.costs[index]))",
        "        rooms.append(ReleaseQuote(max(0, left), min(wanted.costs)))",
        _LEDGER,
    ),
    Mutant(
        "mixtures count as if all were Gaussian",
        "agent/privacy/release_cost.py",
        "    return all(each.is_gaussian for each in paid)",
        "    return True",
        _LEDGER,
    ),
    Mutant(
        "windows that are learnt late change nothing",
        "agent/privacy/ledger.py",
        "charges={at: paid.widened(windows) for at, paid in charges},\n",
        "charges=dict(charges),\n",
        _RIM,
    ),
    Mutant(
        "the process knows no cap",
        "agent/runtime/assembly.py",
        "config.privacy.cap(), data,",
        "None, data,",
        _PROCESS,
    ),
    Mutant(
        "the process charges overlapping windows once",
        "agent/round/participation.py",
        "            slot, order.privacy, step.settings.windows\n        )\n    except",
        "            slot, order.privacy, 1\n        )\n    except",
        _PROCESS,
    ),
    Mutant(
        "content keys are known to everybody",
        "agent/runtime/process_trainer.py",
        "        entropy = os.urandom(ENTROPY_BYTES)",
        "        entropy = bytes(ENTROPY_BYTES)",
        _PROCESS,
    ),
)

_ORDER = (
    Mutant(
        "the trainer goes on before the charge is written",
        "agent/round/participation.py",
        "    step.emit(Spend(entry), ResumeTraining())",
        "    step.emit(ResumeTraining(), Spend(entry))",
        ("tests/unit/agent/test_machine.py",),
    ),
    Mutant(
        "the trainer reads data without leave",
        "agent/trainer/worker.py",
        "        self._pipe.await_go()\n        self._held.give",
        "        self._held.give",
        ("tests/contract/trainer/test_trainer_process.py",),
    ),
    Mutant(
        "an update is thrown away when it is refused",
        "agent/update/outbox.py",
        "    if final:\n        _stop(step, item.entry.update)\n",
        '    if final:\n        _delete(step, item, "refused")\n',
        ("tests/unit/agent/update/test_outbox.py",),
    ),
)

_MEMORY = (
    Mutant(
        "what the chain proves is not counted",
        "agent/privacy/ledger.py",
        "            return evolve(grown, proven=(*ledger.proven, entry), below=known)",
        "            return evolve(grown, below=known)",
        _STATEMENTS,
    ),
    Mutant(
        "versions up to the proven head are trained from again",
        "agent/privacy/ledger.py",
        "        if slot[2] < self.below.get(slot[:2], 0):",
        "        if slot[2] < 0:",
        _STATEMENTS,
    ),
    Mutant(
        "a task may become another",
        "agent/privacy/ledger.py",
        "        if known is not None and known != terms:",
        "        if known is not None and known == b'':",
        _MANIFESTS,
    ),
)

LEDGER = (*_BUDGET, *_ORDER, *_MEMORY)
