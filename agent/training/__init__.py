"""Local training in numpy: clipping, DP-SGD, optimisers, personal layers; pure."""
