"""Facts taken over from the chain: newest model, validators, the board's account."""
