"""The incident graph, its prompts, and the headings of the briefing that every agent of it starts from."""

from __future__ import annotations

#: They stand at the start of a line; what people wrote is quoted with "> ", so it cannot forge one.
SERVICES = "Services known there:"
ABOUT = "The query seems to be about:"
REPORT_OF = "Report of"
ANSWER = "A person was asked, and answered:"
