"""What all tests share."""

from hypothesis import settings

# The default is 200 ms for an example, which a busy machine exceeds at any time.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")
