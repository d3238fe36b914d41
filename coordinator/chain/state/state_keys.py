"""Where what stands in the chain's state: its keys.

    operator/<public key>        empty: this key may admit boards and publish tasks
    operators                    how many there are
    motions                      how many motions were carried
    board/<id>                   `Board`
    key/<public key>             id of the board that rotated to this key
    boards, tasks                how many there are
    published/<transaction id>   number of the task that this TASK transaction became
    task/<n>                     packed `TaskSpec`
    version/<n>/<v>              digest of a final version that may still be a base
    head/<n>                     `Progress`
    update/<n>/<board>           `SigningHistory`: what the board signed lately
    pending/<n>/<place>          `QueuedUpdate`: an update that waits, or belongs to the
    job job/<n>                      `JobRecord`, while a version is being computed
    attest/<n>                   `Attestations` of that job
    dissent/<n>/<public key>     `MismatchRecord`: a validator that was outvoted on
    versions fault/<id>                   `Fault`: it provably signed contradictions
    absence/<public key>         `AbsenceRecord`: a validator that missed its turn to
    propose epochs                       `Epochs`: which validator sets stand here
    epoch/<k>                    `Epoch`: a validator set and its first height
    waiting                      tasks with pending updates or forfeits and no open job
    clock                        `windows.Marks`: which heights had which time

Forfeits stand as `forfeits` says, learners as `learners` does.
Accounts and pools stand as `accounts` says, settlements as `settlement` does.
"""

from starling.protocol.schema.msgpack_codec import encode

BOARDS_KEY = b"boards"
TASKS_KEY = b"tasks"
OPERATORS_KEY = b"operators"
MOTIONS_KEY = b"motions"
EPOCHS_KEY = b"epochs"
WAITING_KEY = b"waiting"


def operator_key(public: bytes) -> bytes:
    """Present if this key is an operator's."""
    return b"operator/" + public


def owner_key(public: bytes) -> bytes:
    """Where it stands which board rotated to a key."""
    return b"key/" + public


def fault_key(identity: bytes) -> bytes:
    """Where a conviction stands."""
    return b"fault/" + identity


def absence_key(public: bytes) -> bytes:
    """Where it stands that a validator missed its turn."""
    return b"absence/" + public


def epoch_key(number: int) -> bytes:
    """Where a validator set stands that followed the genesis's."""
    return b"epoch/%d" % number


def published_key(transaction: bytes) -> bytes:
    """Where the number of the task stands that a transaction published."""
    return b"published/" + transaction


def history_key(number: int, board_id: bytes) -> bytes:
    """Where it stands what a board signed for a task."""
    return b"update/%d/" % number + board_id


def pending_key(number: int, place: int) -> bytes:
    """Where a waiting update stands."""
    return b"pending/%d/%d" % (number, place)


def job_key(number: int) -> bytes:
    """Where a task's open job stands."""
    return b"job/%d" % number


def dissent_key(number: int, public: bytes) -> bytes:
    """Where it stands that a validator was outvoted on versions of a task."""
    return b"dissent/%d/" % number + public


def attest_key(number: int) -> bytes:
    """Where the attestations of a task's open job stand."""
    return b"attest/%d" % number


def pack_waiting(numbers: tuple[int, ...]) -> bytes | None:
    """The value under `WAITING_KEY`; None, for no entry, if no task waits."""
    return encode(sorted(numbers)) if numbers else None


def pack_number(number: int) -> bytes:
    """The value of a counter."""
    return encode(number)
