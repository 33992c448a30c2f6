"""What the chaos graph does, in words that need no Django."""

from __future__ import annotations

RULES = """
[tools."chaos:look"]
sentence = "look at **${target}**"
[tools."chaos:nudge"]
sentence = "nudge **${target}**"
[tools."chaos:strike"]
sentence = "strike **${target}**"
[[risk.rules]]
name = "look"
tool = "chaos:look"
risk = "low"
[[risk.rules]]
name = "nudge"
tool = "chaos:nudge"
risk = "medium"
[[risk.rules]]
name = "strike"
tool = "chaos:strike"
risk = "high"
"""

#: What each session does to the world, as the effects file names it: the strikes once they are approved, and before
#: them what nobody is asked about.
STRIKES = ("left", "right", "last")
EFFECTS = ("nudged", *STRIKES)
