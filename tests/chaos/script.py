"""What the chaos graph does, in words that need no Django."""

from __future__ import annotations

RULES = """
[tools."chaos:look"]
sentence = "look at **${target}**"
[tools."chaos:strike"]
sentence = "strike **${target}**"
[[risk.rules]]
name = "look"
tool = "chaos:look"
risk = "low"
[[risk.rules]]
name = "strike"
tool = "chaos:strike"
risk = "high"
"""

#: Each strike's target, which names it in the effects file.
STRIKES = ("left", "right", "last")
