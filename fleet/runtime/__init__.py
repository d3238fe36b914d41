"""The world: clock, randomness, disk, network and processes of `fleet`."""
