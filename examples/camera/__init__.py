"""A camera: pictures by class, a frozen front, and a head that cameras train."""
