"""Bundles and models, as far as any coordinator of a virtual fleet has them."""

from starling.fleet.virtual.virtual_coordinator import VirtualCoordinator
from starling.protocol.ids import Digest


class StoredBlobs:
    """Blobs that any coordinator has stored; boards that pulled them hold them too."""

    def __init__(self, coordinators: list[VirtualCoordinator]) -> None:
        """Looks at the coordinators' stores whenever it is asked."""
        self._coordinators = coordinators

    def __getitem__(self, digest: Digest) -> bytes:
        """A blob.

        Raises:
          KeyError: If nobody has it.
        """
        for each in self._coordinators:
            found = each.store.blob(digest)
            if found is not None:
                return found
        raise KeyError(digest)
