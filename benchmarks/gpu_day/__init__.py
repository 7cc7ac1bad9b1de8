"""Everything that waits for a GPU, in one go: blocks with a limit of their own, each with a file of its result.

A block that has its result from this code on this device is not measured again. One that fails or runs out of time is recorded
with its reason, and the next one goes on. Nothing is accepted: what is measured lies in DIR/proposals (docs/nightly.md).
"""
