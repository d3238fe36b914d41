"""What other coordinators ask for, read from the store and cut where it is long."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from coordinator.effects import Give, GiveKey
from coordinator.gossip import (
    DIRECT_BYTES_MAX,
    FRAME,
    GIVEN_KEY,
    GIVEN_MODEL,
    GIVEN_PIECE,
    GIVEN_UPLOAD,
    Frame,
    GivenKey,
    GivenModel,
    GivenPiece,
    GivenUpload,
    Subject,
    parse_model_key,
)
from coordinator.ledger.storage import Store
from coordinator.rim import serving
from coordinator.rim.wholes import WholeCache
from coordinator.state import Settings
from protocol.chunks import chunk_at, chunk_count
from protocol.errors import DecodeError, ProtocolError
from protocol.ids import Digest, H
from protocol.messages import CONTRIBUTION
from protocol.sealing import SEALED, open_committed, pass_key

KEPT_BYTES_MAX = 16 << 20
"""Of long answers that are being pulled; a longer one is kept alone."""


@dataclass(frozen=True)
class _Answer:
    subject: Subject
    content: bytes
    digest: Digest


class Answers:
    """Makes the frames of answers; remembers the long ones while they are pulled."""

    def __init__(self, settings: Settings, store: Store, wholes: WholeCache) -> None:
        """Starts with nothing remembered.

        Args:
          settings: For our key.
          store: Where everything is.
          wholes: Bundles and parts of models.
        """
        self._settings = settings
        self._store = store
        self._wholes = wholes
        self._kept: OrderedDict[tuple[int, bytes, bytes], _Answer] = OrderedDict()
        self._kept_bytes = 0

    def frames(self, effect: Give | GiveKey) -> Iterator[bytes]:
        """The payloads of an answer; none if we have not got what is asked for."""
        if isinstance(effect, GiveKey):
            asked, key, asker = Subject.KEY, bytes(effect.update), bytes(effect.to)
        else:
            asked, key, asker = effect.subject, effect.key, b""
        answer = self._answer((asked, key, asker), effect)
        if answer is None:
            return
        if len(answer.content) <= DIRECT_BYTES_MAX:
            yield FRAME.pack(Frame(answer.subject, answer.content))
            return
        for index in effect.pieces or (0,):
            if index < chunk_count(len(answer.content)):
                chunk = chunk_at(answer.content, answer.digest, index)
                piece = GivenPiece(asked, key, answer.subject, chunk)
                yield FRAME.pack(Frame(Subject.PIECE, GIVEN_PIECE.pack(piece)))

    def _answer(
        self, name: tuple[Subject, bytes, bytes], effect: Give | GiveKey
    ) -> _Answer | None:
        if name[0] is Subject.WHOLE:
            whole = self._wholes.get(Digest(name[1]))
            return None if not whole else _Answer(name[0], whole, Digest(name[1]))
        known = self._kept.get(name)
        if known is not None:
            self._kept.move_to_end(name)
            return known
        found = self._key(effect) if isinstance(effect, GiveKey) else self._read(effect)
        if found is None:
            return None
        subject, content = found
        # What travels at once needs no name.
        long = len(content) > DIRECT_BYTES_MAX
        answer = _Answer(subject, content, H(content) if long else Digest(b""))
        if long:
            self._keep(name, answer)
        return answer

    def _keep(self, name: tuple[int, bytes, bytes], answer: _Answer) -> None:
        self._kept[name] = answer
        self._kept_bytes += len(answer.content)
        while self._kept_bytes > KEPT_BYTES_MAX and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped.content)

    def _read(self, asked: Give) -> serving.Answer | None:
        readers: dict[Subject, Callable[[bytes], serving.Answer | None]] = {
            Subject.BLOCKS: lambda key: serving.blocks(self._store, key),
            Subject.BUCKETS: lambda key: serving.buckets(self._store, key),
            Subject.UPLOAD: self._upload,
            Subject.MODEL: self._model,
        }
        read = readers.get(asked.subject)
        return None if read is None else read(asked.key)

    def _upload(self, key: bytes) -> serving.Answer | None:
        stored = self._store.upload(key)
        if stored is None:
            return None
        given = GivenUpload(stored.update, stored.blob)
        return Subject.UPLOAD, GIVEN_UPLOAD.pack(given)

    def _key(self, asked: GiveKey) -> serving.Answer | None:
        stored = self._store.upload(asked.update)
        if stored is None:
            return None
        key, update = self._settings.gate.key, stored.update
        content_key = asked.content_key
        try:
            if content_key is None:
                committed = CONTRIBUTION.unpack(update.body).commitment
                sealed = SEALED.unpack(stored.blob)
                content_key, _ = open_committed(sealed, key, update.sender, committed)
            box = pass_key(content_key, stored.transaction, key, asked.box_for)
        except ProtocolError:
            # It does not open here either, or their key is of small order.
            return None
        return Subject.KEY, GIVEN_KEY.pack(GivenKey(update, stored.blob, box))

    def _model(self, key: bytes) -> serving.Answer | None:
        try:
            task, version = parse_model_key(key)
        except DecodeError:
            return None
        model = self._store.model(task, version)
        if model is None:
            return None
        return Subject.MODEL, GIVEN_MODEL.pack(GivenModel(task, version, model))
