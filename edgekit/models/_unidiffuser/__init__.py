"""One network for pictures and their captions, each at a level of its own; see docs/unidiffuser.md."""
