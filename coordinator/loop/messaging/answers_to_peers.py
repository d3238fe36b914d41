"""Answers to other coordinators, read from the store and cut where long."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from starling.coordinator.chain.gossip_messages import FrameSubject, frame
from starling.coordinator.chain.storage.chain_store import ChainStore
from starling.coordinator.loop.storage import sync_reader
from starling.coordinator.loop.storage.blob_cache import BlobCache
from starling.coordinator.step.effects import SendAnswer, SendContentKey
from starling.coordinator.step.state import CoordinatorSettings
from starling.coordinator.wire.frames import (
    DIRECT_BYTES_MAX,
    GIVEN_KEY,
    GIVEN_MODEL,
    GIVEN_PIECE,
    GIVEN_UPLOAD,
    ContentKeyAnswer,
    ModelAnswer,
    PieceAnswer,
    UploadAnswer,
    parse_model_key,
)
from starling.protocol.crypto.sealed_blob import SEALED, open_sealed, pass_key
from starling.protocol.errors import DecodeError, ProtocolError
from starling.protocol.ids import Digest, H
from starling.protocol.wire.chunks import chunk_at, chunk_count
from starling.protocol.wire.message_bodies import CONTRIBUTION

KEPT_BYTES_MAX = 16 << 20
"""Of long answers that are being pulled; a longer one is kept alone."""


@dataclass(frozen=True)
class _Answer:
    subject: FrameSubject
    content: bytes
    digest: Digest


class PeerAnswers:
    """Makes the frames of answers; remembers the long ones while they are pulled."""

    def __init__(
        self, settings: CoordinatorSettings, store: ChainStore, blobs: BlobCache
    ) -> None:
        """Starts with nothing remembered.

        Args:
          settings: For our key.
          store: Where everything is.
          blobs: Bundles and parts of models.
        """
        self._settings = settings
        self._store = store
        self._blobs = blobs
        self._kept: OrderedDict[tuple[int, bytes, bytes], _Answer] = OrderedDict()
        self._kept_bytes = 0

    def frames(self, effect: SendAnswer | SendContentKey) -> Iterator[bytes]:
        """The payloads of an answer; none if we have not got what is asked for."""
        if isinstance(effect, SendContentKey):
            asked, key, asker = FrameSubject.KEY, bytes(effect.update), bytes(effect.to)
        else:
            asked, key, asker = effect.subject, effect.key, b""
        answer = self._answer((asked, key, asker), effect)
        if answer is None:
            return
        if len(answer.content) <= DIRECT_BYTES_MAX:
            yield frame(answer.subject, answer.content)
            return
        for index in effect.pieces or (0,):
            if index < chunk_count(len(answer.content)):
                chunk = chunk_at(answer.content, answer.digest, index)
                piece = PieceAnswer(asked, key, answer.subject, chunk)
                yield frame(FrameSubject.PIECE, GIVEN_PIECE.pack(piece))

    def _answer(
        self,
        name: tuple[FrameSubject, bytes, bytes],
        effect: SendAnswer | SendContentKey,
    ) -> _Answer | None:
        if name[0] is FrameSubject.WHOLE:
            blob = self._blobs.get(Digest(name[1]))
            return None if not blob else _Answer(name[0], blob, Digest(name[1]))
        known = self._kept.get(name)
        if known is not None:
            self._kept.move_to_end(name)
            return known
        found = (
            self._key(effect)
            if isinstance(effect, SendContentKey)
            else self._read(effect)
        )
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

    def _read(self, asked: SendAnswer) -> sync_reader.Answer | None:
        readers: dict[FrameSubject, Callable[[bytes], sync_reader.Answer | None]] = {
            FrameSubject.BLOCKS: lambda key: sync_reader.blocks(self._store, key),
            FrameSubject.BUCKETS: lambda key: sync_reader.buckets(self._store, key),
            FrameSubject.UPLOAD: self._upload,
            FrameSubject.MODEL: self._model,
        }
        read = readers.get(asked.subject)
        return None if read is None else read(asked.key)

    def _upload(self, key: bytes) -> sync_reader.Answer | None:
        stored = self._store.upload(key)
        if stored is None:
            return None
        given = UploadAnswer(stored.update, stored.blob)
        return FrameSubject.UPLOAD, GIVEN_UPLOAD.pack(given)

    def _key(self, asked: SendContentKey) -> sync_reader.Answer | None:
        stored = self._store.upload(asked.update)
        if stored is None:
            return None
        key, update = self._settings.gate.key, stored.update
        content_key = asked.content_key
        try:
            if content_key is None:
                committed = CONTRIBUTION.unpack(update.body).commitment
                sealed = SEALED.unpack(stored.blob)
                content_key, _ = open_sealed(sealed, key, update.sender, committed)
            box = pass_key(content_key, stored.transaction, key, asked.box_for)
        except ProtocolError:
            # It does not open here either, or their key is of small order.
            return None
        return FrameSubject.KEY, GIVEN_KEY.pack(
            ContentKeyAnswer(update, stored.blob, box)
        )

    def _model(self, key: bytes) -> sync_reader.Answer | None:
        try:
            task, version = parse_model_key(key)
        except DecodeError:
            return None
        model = self._store.model(task, version)
        if model is None:
            return None
        return FrameSubject.MODEL, GIVEN_MODEL.pack(ModelAnswer(task, version, model))
