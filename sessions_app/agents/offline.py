"""The offline investigator: a chat model that needs no network and follows the published rules.

It is no language model. It reads what a language model would read, the conversation with its tool results,
and answers with the same kinds of things: a short reasoning, tool calls, a structured report. What it may
call is what was bound to it; what it concludes is what `diagnosis.py` says of the readings.
docs/offline_investigator.md says what it cannot do.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from sessions_app.agents import diagnosis, inquiry, offline_answers
from sessions_app.agents.diagnosis import Fix, Hypothesis, Readings
from sessions_app.agents.facts import OVERTAKEN
from sessions_app.agents.incident import ANSWER, REPORT_OF, SERVICES

NAME = "offline-investigator"
REPORT = "Report"
ONCALL = "on-call"
#: A fix is looked at so often, a little longer than the service's own window each time, before it counts as
#: failed.
LOOKS = 2
LONGEST_LOOK = 5.0
MARGIN_SECONDS = 0.75
MOST_FIXES = 2
MOST_SERVICES = 3
LOG_SECONDS = 30

_ROLE = re.compile(r"You are the `?(\w+)`? agent")
_REJECTED = re.compile(r"with reason: (.*)", re.DOTALL)
_TEAM = re.compile(r"escalate\w* (?:it |this )?to (?:the )?([\w-]+)", re.IGNORECASE)
_NUMBER = re.compile(r"\b(\d{1,2})\b")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One tool call of the conversation with what came back."""

    name: str
    args: dict[str, Any]
    text: str
    failed: bool

    @cached_property
    def result(self) -> dict[str, Any]:
        """The result as an object; the note before it, of a person who edited the call, is skipped."""
        try:
            value = json.loads(self.text.rpartition("\n")[2])
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def action(self) -> str:
        """The fix that was asked for, or the one that ran instead because a person edited the call."""
        return str(self.result.get("action") or self.args.get("action"))

    @property
    def overtaken(self) -> bool:
        """Whether it was approved and then not run, because what it rests on had changed."""
        return self.failed and OVERTAKEN in self.text

    @property
    def worked(self) -> bool:
        """Whether the tool ran and did what it was asked."""
        return not self.failed and bool(self.result) and "error" not in self.result


@dataclass(frozen=True, kw_only=True)
class Step:
    """What to say next: a reasoning, and tool calls by original name, the report among them."""

    text: str
    calls: tuple[tuple[str, dict[str, Any]], ...] = ()


@dataclass(kw_only=True)
class Conversation:
    """The messages so far, read for what the rules need."""

    role: str
    briefing: str
    calls: list[Call]
    tools: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, messages: Sequence[BaseMessage], tools: Sequence[str]) -> Conversation:
        """Read messages as LangChain hands them to any chat model."""
        system = " ".join(str(m.text) for m in messages if isinstance(m, SystemMessage))
        known = {name.rpartition("__")[2]: name for name in tools}
        asked = {
            call["id"]: call for message in messages if isinstance(message, AIMessage) for call in message.tool_calls
        }
        calls = [
            Call(
                name=str(asked[message.tool_call_id]["name"]).rpartition("__")[2],
                args=asked[message.tool_call_id]["args"],
                text=str(message.text),
                failed=message.status == "error",
            )
            for message in messages
            if isinstance(message, ToolMessage) and message.tool_call_id in asked
        ]
        named = _ROLE.search(system)
        if named:
            role = named[1]
        elif "apply_fix" in known:
            role = "resolution"
        else:
            role = "deep_investigator" if "get_logs" in known else "triage"
        return cls(
            role=role,
            briefing="\n".join(str(m.text) for m in messages if isinstance(m, HumanMessage)),
            calls=calls,
            tools=known,
        )

    def can(self, name: str) -> bool:
        """Whether a tool was bound."""
        return name in self.tools

    def made(self, name: str) -> list[Call]:
        """Return the calls of one tool, but for those that the facts overtook: they may be asked for again."""
        return [call for call in self.calls if call.name == name and not call.overtaken]

    def line(self, heading: str) -> str:
        """Return what stands behind a heading of the briefing, on its line."""
        for line in self.briefing.splitlines():
            if line.startswith(heading):
                return line[len(heading) :].strip().rstrip(".")
        return ""

    @property
    def services(self) -> list[str]:
        """The services that the briefing names or that a reading came from."""
        named = [name.strip() for name in self.line(SERVICES).split(",") if name.strip()]
        if named == ["none"]:
            return []
        seen = [r["service"] for call in self.made("get_service_health") for r in _each(call.result)]
        return list(dict.fromkeys([*named, *seen]))

    @property
    def answer(self) -> str:
        """What a person answered to the question about confidence, or nothing."""
        if ANSWER not in self.briefing.splitlines():
            return ""
        after = self.briefing.rpartition(f"{ANSWER}\n")[2]
        lines = [line[2:] for line in after.splitlines() if line.startswith("> ")]
        return "\n".join(lines).strip()

    @property
    def reports(self) -> str:
        """What the agents before this one reported."""
        return self.briefing.partition(f"\n{REPORT_OF} ")[2]

    def readings(self, service: str, calls: Sequence[Call] | None = None) -> Readings:
        """Gather the newest reading of each kind for a service."""
        found: dict[str, dict[str, Any]] = {"health": {}, "metrics": {}, "logs": {}, "history": {}}
        kinds = {
            "get_service_health": "health",
            "get_metrics": "metrics",
            "get_logs": "logs",
            "check_deployment_history": "history",
        }
        for call in self.calls if calls is None else calls:
            if call.name in kinds:
                for reading in _each(call.result):
                    if reading.get("service") == service:
                        found[kinds[call.name]] = reading
        return Readings(service=service, **found)


def _each(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the per-service readings of a tool result, whether it is of one service or of all."""
    if isinstance(several := result.get("services"), list):
        return [reading for reading in several if isinstance(reading, dict) and "service" in reading]
    return [result] if "service" in result else []


# What each agent does next ----------------------------------------------------------------------------------


def triage(talk: Conversation) -> Step:
    """Look at every service of the environment and say which one is sick."""
    if not talk.calls:
        return Step(
            text="First I look at the health and the metrics of everything in this environment.",
            calls=(("get_service_health", {}), ("get_metrics", {})),
        )
    return _report_sickest(talk, by="triage")


def deep_investigator(talk: Conversation) -> Step:
    """Read logs, deployments and metrics of the sick service and form a hypothesis."""
    read: list[tuple[str, dict[str, Any]]] = []
    if not talk.calls:
        read = [("get_service_health", {}), ("get_metrics", {})]
    seen = {call.args.get("service") for call in talk.made("get_logs")}
    for name in talk.services[:MOST_SERVICES]:
        if name not in seen:
            read.append(("get_logs", {"service": name, "since_seconds": LOG_SECONDS, "lines": 4}))
            read.append(("check_deployment_history", {"service": name, "limit": 3}))
    read = [(name, args) for name, args in read if talk.can(name)]
    if read:
        return Step(text="I read the logs, the deployments and the metrics side by side.", calls=tuple(read))
    return _report_sickest(talk, by="deep_investigator")


def _report_sickest(talk: Conversation, *, by: str) -> Step:
    readings = [talk.readings(name) for name in talk.services]
    readings = [each for each in readings if each.health or each.metrics]
    worst = diagnosis.sickest(readings)
    if worst is None:
        said = next((str(c.result["error"]) for c in talk.calls if "error" in c.result), "Nothing could be read.")
        return _report(
            summary=f"{said} I cannot say what is wrong, or whether anything is.",
            confidence=0.1,
            rationale="There is no reading to base anything on.",
            signal="unsure",
            evidence=[said],
        )
    if diagnosis.healthy(worst):
        return _found_healthy(talk, worst, by)
    hypotheses = diagnosis.diagnose(worst)
    if not hypotheses:
        return _report(
            summary=f"{worst.service} is {worst.status}, and no rule that I have explains why.",
            confidence=0.3,
            rationale="The readings are not normal but match none of the published rules.",
            signal="unsure",
            evidence=_quotes(worst),
        )
    best = hypotheses[0]
    fix = best.rule.fixes[0]
    others = [each.service for each in readings if each is not worst and not diagnosis.healthy(each)]
    also = f" Also not healthy: {', '.join(others)}." if others else ""
    record = {
        "severity": "high" if worst.status == "down" else "medium",
        "category": best.rule.category,
        "tags": [worst.service, best.rule.name],
        "summary": f"{worst.service} is {worst.status} because of {best.rule.title}.",
    }
    if by == "deep_investigator":
        record["findings"] = [*best.support, *(f"against it: {said}" for said in best.against)]
    return _report(
        summary=f"{worst.service} is {worst.status} because of {best.rule.title}. "
        f"{_sentence(best.support[:3])} The fix to try is {fix.action}.{also}",
        confidence=best.confidence,
        rationale=_rationale(best),
        signal="continue",
        evidence=[*best.support, *_quotes(worst)],
        record=record if talk.can("update_incident") else None,
    )


def _found_healthy(talk: Conversation, readings: Readings, by: str) -> Step:
    names = ", ".join(talk.services)
    record = {
        "severity": "low",
        "summary": f"Nothing is wrong: {names} healthy.",
        "tags": list(talk.services),
    }
    return _report(
        summary=f"Nothing is wrong: {names} is healthy. {_sentence(_quotes(readings)[:2])}",
        confidence=0.9 if readings.metrics else 0.7,
        rationale="The service says so itself, and its error ratio and latency agree."
        if readings.metrics
        else "The service says so itself; its metrics were not read.",
        signal="healthy",
        evidence=_quotes(readings),
        record=record if talk.can("update_incident") and by == "triage" else None,
    )


def resolution(talk: Conversation) -> Step:
    """Propose, apply, check that it healed, and end the incident; or hand it over."""
    if ended := [c for c in talk.calls if c.name in {"mark_resolved", "mark_escalated", "notify_oncall"}]:
        return _report_ending(talk, ended)
    wanted, unwanted = diagnosis.wishes(talk.answer)
    if "escalate" in wanted:
        return _escalate(talk, f'A person decided it: "{talk.answer[:200]}"')
    if "close" in wanted and not talk.made("apply_fix"):
        return _resolve(f'Closed because a person answered: "{talk.answer[:200]}"')
    overtaken = [call for call in talk.calls if call.overtaken]
    if len(overtaken) > MOST_FIXES:
        return _escalate(talk, f"The facts under it change faster than it is approved: {_reason(overtaken[-1])[:300]}")
    if overtaken and not any(call.name == "get_service_health" for call in _after_last(talk, overtaken[-1])):
        return Step(
            text="My fix was approved and not run, because the facts had changed. I look again before I ask again.",
            calls=(("get_service_health", {}), ("get_metrics", {})),
        )
    if not talk.made("get_service_health"):
        return Step(
            text="Before I touch anything I look at the service once more.",
            calls=(("get_service_health", {}), ("get_metrics", {})),
        )
    readings = [talk.readings(name) for name in talk.services]
    worst = diagnosis.sickest([each for each in readings if each.health])
    if worst is None:
        return _escalate(talk, "No service of this environment can be read from here, so nothing can be done.")
    applied = [call for call in talk.made("apply_fix") if call.worked]
    if not applied and not talk.made("apply_fix") and diagnosis.healthy(worst) and not wanted:
        return _resolve(f"Nothing was wrong: {worst.service} is healthy. {_sentence(_quotes(worst)[:2])}")
    if applied:
        service = str(applied[-1].args.get("service") or worst.service)
        later = _after_last(talk, applied[-1])
        looks = [call for call in later if call.name == "get_service_health"]
        now = talk.readings(service, later)
        if not looks or (now.status != "healthy" and len(looks) < LOOKS):
            return _look(talk, applied[-1], service, again=bool(looks))
        if not any(call.name == "get_metrics" for call in later):
            believed = "Its metrics must say the same before I believe it."
            doubted = "Its metrics will say what is left of it."
            return Step(
                text=f"{service} is {now.status}. {believed if now.status == 'healthy' else doubted}",
                calls=(("get_metrics", {"service": service}),),
            )
        if diagnosis.healthy(now):
            return _healed(applied[-1], now)
        worst = now
    return _next_fix(talk, worst, applied, wanted, unwanted)


def _next_fix(
    talk: Conversation, worst: Readings, applied: Sequence[Call], wanted: Sequence[str], unwanted: set[str]
) -> Step:
    """Pick the fix that a person asked for, or the next of the rule, unless it was tried or turned down."""
    attempts = talk.made("apply_fix")
    refused = [call for call in attempts if not call.worked]
    wanted, unwanted = list(wanted), set(unwanted)
    for call in refused:
        more, less = diagnosis.wishes(_reason(call))
        unwanted |= {call.action} | less
        wanted = [*more, *wanted]
    if "escalate" in wanted:
        return _escalate(talk, f'A person decided it: "{_reason(refused[-1])[:200]}"')
    best = _hypothesis(talk, worst)
    tried = {action for call in attempts for action in (call.action, str(call.args.get("action")))}
    if best is None and not wanted:
        return _escalate(talk, f"{worst.service} is {worst.status} and no rule that I have explains why.")
    rule_fixes = best.rule.fixes if best else ()
    candidates = [diagnosis.FIXES[a] for a in wanted if a in diagnosis.FIXES] + list(rule_fixes)
    open_fixes = [fix for fix in candidates if fix.action not in tried | unwanted]
    if not open_fixes or len(applied) >= MOST_FIXES or not talk.can("apply_fix"):
        return _escalate(talk, _why_stuck(worst, applied, refused))
    fix = open_fixes[0]
    asked_for = fix.action in wanted
    case = _case(talk, worst, best, fix, refused, applied, asked_for=asked_for)
    args: dict[str, Any] = {"service": worst.service, "action": fix.action}
    if fix.action == "resize_pool":
        args["size"] = _size(talk.answer if asked_for else "", worst)
    short = f"{_sentence(best.support)[:400]} It looks like {best.rule.title}." if best else case[:600]
    proposed = [call.args.get("action") for call in talk.made("propose_fix")]
    if talk.can("propose_fix") and fix.action not in proposed:
        return Step(
            text=f"For {worst.service} I propose {_named(fix, args)}, because {fix.why}.",
            calls=(("propose_fix", {**args, "reason": short, "expected": fix.check}),),
        )
    return Step(text=case, calls=(("apply_fix", {**args, "reason": short}),))


def _hypothesis(talk: Conversation, worst: Readings) -> Hypothesis | None:
    """Return the earlier agents' hypothesis if the fresh readings bear it out, or else the readings' own."""
    fresh = diagnosis.diagnose(worst)
    named = diagnosis.rule_named(talk.reports)
    if named is not None:
        weighed = diagnosis.weigh(named, worst)
        if weighed.support and (not fresh or fresh[0].confidence - weighed.confidence < 0.3):
            return weighed
    return fresh[0] if fresh else None


def _case(
    talk: Conversation,
    worst: Readings,
    best: Hypothesis | None,
    fix: Fix,
    refused: Sequence[Call],
    applied: Sequence[Call],
    *,
    asked_for: bool,
) -> str:
    """Say what an approver needs: what was seen, what is wanted, what it breaks, whether it can be undone."""
    seen = best.support if best else tuple(_quotes(worst))
    parts = [f"{worst.service} is {worst.status}: {_sentence(seen)}"]
    if asked_for and talk.answer:
        parts.append(f'A person answered: "{talk.answer[:160]}".')
    elif best:
        parts.append(f"That points to {best.rule.title}.")
    for call in refused:
        parts.append(f"{call.action} did not happen ({_reason(call)[:160]}), so I try another way.")
    for call in applied:
        parts.append(f"{call.action} was done and did not heal it.")
    args = {"size": _size(talk.answer if asked_for else "", worst)} if fix.action == "resize_pool" else {}
    parts.append(f"I want {_named(fix, args)}, because {fix.why}.")
    parts.append(fix.undo)
    parts.append(fix.breaks.format(in_flight=int(worst.metrics.get("in_flight", 0))))
    return " ".join(parts)


def _look(talk: Conversation, fix: Call, service: str, *, again: bool) -> Step:
    window = float(talk.readings(service).health.get("window_seconds", 2))
    changed = json.dumps(fix.result.get("changed", {}))
    text = "It has not recovered yet; I look once more." if again else f"The service did it ({changed[:160]})."
    return Step(
        text=f"{text} A reading means something once a whole window lies behind the change.",
        calls=(
            ("get_service_health", {"service": service, "wait_seconds": min(LONGEST_LOOK, window + MARGIN_SECONDS)}),
        ),
    )


def _healed(fix: Call, now: Readings) -> Step:
    before = fix.result.get("before", {})
    slow = (before.get("latency_ms") or {}).get("p95", 0)
    was = f"{before.get('error_ratio', 0):.0%} of requests failed, p95 was {slow} ms"
    return _resolve(f"{fix.action} healed {now.service}. Before: {was}. Now: {_sentence(_quotes(now)[:3])}")


def _resolve(resolution: str) -> Step:
    return Step(text=resolution, calls=(("mark_resolved", {"resolution": resolution[:2000]}),))


def _escalate(talk: Conversation, why: str) -> Step:
    named = _TEAM.search(talk.answer) or next(
        (found for call in talk.made("apply_fix") if (found := _TEAM.search(_reason(call)))), None
    )
    team = named[1] if named else ONCALL
    if not talk.can("mark_escalated"):
        return _report(summary=why, confidence=0.5, rationale="I may not hand it over.", signal="escalate", evidence=[])
    return Step(
        text=f"I hand it over to {team}. {why}",
        calls=(("mark_escalated", {"team": team, "reason": why[:2000]}),),
    )


def _report_ending(talk: Conversation, ended: Sequence[Call]) -> Step:
    last = ended[-1]
    applied = [call for call in talk.made("apply_fix") if call.worked]
    if not last.worked:
        return _report(
            summary=f"{last.name} did not go through: {_reason(last)[:300]}",
            confidence=0.2,
            rationale="The incident could not be ended, so a person has to look at it.",
            signal="unsure",
            evidence=[last.text[:300]],
        )
    outcome = last.result
    resolved = outcome.get("outcome") == "resolved"
    return _report(
        summary=str(outcome.get("resolution") or f"Handed over to {outcome.get('team')}: {outcome.get('reason')}"),
        confidence=0.95 if resolved else 0.6,
        rationale=("Health and metrics were read again after the fix." if applied else "No fix was applied.")
        if resolved
        else "What could be tried was tried, or a person decided it.",
        signal="resolved" if resolved else "escalate",
        evidence=[f"{call.action}: {json.dumps(call.result.get('changed', {}))}" for call in applied],
    )


# Words ------------------------------------------------------------------------------------------------------


def _report(
    *,
    summary: str,
    confidence: float,
    rationale: str,
    signal: str,
    evidence: Sequence[str],
    record: dict[str, Any] | None = None,
) -> Step:
    report = {
        "summary": summary,
        "confidence": confidence,
        "rationale": rationale,
        "signal": signal,
        "evidence": list(dict.fromkeys(evidence))[:8],
    }
    calls: list[tuple[str, dict[str, Any]]] = [(REPORT, report)]
    if record:
        # In the same turn as the report: the conversation ends once both are done.
        calls.insert(0, ("update_incident", record))
    return Step(text=summary, calls=tuple(calls))


def _reason(call: Call) -> str:
    """Return why a call had no effect: a person's reason, or what the tool said."""
    if given := _REJECTED.search(call.text):
        return given[1].strip()
    return str(call.result.get("error") or call.text).strip()


def _why_stuck(worst: Readings, applied: Sequence[Call], refused: Sequence[Call]) -> str:
    parts = [f"{worst.service} is {worst.status}: {_sentence(_quotes(worst)[:2])}"]
    parts += [f"{call.action} was done and did not heal it." for call in applied]
    parts += [f"{call.action} did not happen: {_reason(call)[:200]}." for call in refused]
    return " ".join([*parts, "The rules have no other fix for this."])


def _rationale(best: Hypothesis) -> str:
    against = f" Against it: {_sentence(best.against)}" if best.against else " Nothing read speaks against it."
    return f"{len(best.support)} of {len(best.rule.symptoms)} symptoms of {best.rule.title} are there.{against}"


def _quotes(readings: Readings) -> list[str]:
    """Quote the readings, with their numbers."""
    quotes = [f"{readings.service} health: {readings.status}"]
    failing = readings.health.get("failing_checks") or {}
    quotes += [f"failing check {name}: {said}" for name, said in failing.items()]
    if readings.metrics:
        quotes.append(f"{readings.error_ratio:.0%} of requests fail, p95 latency {readings.p95_ms:.0f} ms")
    size, in_use, waiting = readings.pool
    if size:
        quotes.append(f"pool: {in_use} of {size} in use, {waiting} waiting")
    return quotes


def _sentence(parts: Sequence[str]) -> str:
    return f"{'; '.join(parts)}." if parts else ""


def _size(asked: str, readings: Readings) -> int:
    """Return the pool size that a person named, or twice the present one."""
    if named := _NUMBER.search(asked):
        return max(1, min(64, int(named[1])))
    return min(64, 2 * readings.pool[0]) or 40


def _named(fix: Fix, args: dict[str, Any]) -> str:
    words = {
        "restart": "a restart",
        "resize_pool": f"to resize the connection pool to {args.get('size')}",
        "roll_back": "a rollback to the version before",
        "clean_up": "to delete the crash dumps",
    }
    return words[fix.action]


def _after_last(talk: Conversation, fix: Call) -> list[Call]:
    return talk.calls[max(i for i, call in enumerate(talk.calls) if call is fix) + 1 :]


ROLES: dict[str, Callable[[Conversation], Step]] = {
    "triage": triage,
    "deep_investigator": deep_investigator,
    "resolution": resolution,
}


# The chat model ---------------------------------------------------------------------------------------------


class OfflineInvestigator(BaseChatModel):
    """A chat model that investigates by rules; its token counts are estimates, at four letters a token."""

    model: str = NAME

    @property
    def _llm_type(self) -> str:
        return NAME

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: str | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools by their names, which is all that the rules need of them."""
        return self.bind(bound_tools=tuple(_tool_name(tool) for tool in tools))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._answer(messages, kwargs.get("bound_tools", ()))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        # The rules take well under a millisecond: a thread would cost more than it frees.
        return self._answer(messages, kwargs.get("bound_tools", ()))

    def _answer(self, messages: Sequence[BaseMessage], tools: Sequence[str]) -> ChatResult:
        if any(isinstance(message, SystemMessage) and inquiry.RULES in message.text for message in messages):
            # A question about its work, not a turn of it: it has no tools and takes no step.
            step = Step(text=offline_answers.answer(str(messages[-1].text)))
            talk = Conversation(role="", briefing="", calls=[])
        else:
            talk = Conversation.read(messages, tools)
            step = ROLES.get(talk.role, triage)(talk)
        calls = [
            {"name": talk.tools[name], "args": args, "id": f"call_{uuid.uuid4().hex}", "type": "tool_call"}
            for name, args in step.calls
            if talk.can(name)
        ]
        read = sum(len(str(message.text)) for message in messages)
        written = len(step.text) + sum(len(json.dumps(call["args"])) for call in calls)
        message = AIMessage(
            content=step.text,
            tool_calls=calls,
            usage_metadata=UsageMetadata(
                input_tokens=read // 4, output_tokens=written // 4, total_tokens=read // 4 + written // 4
            ),
            response_metadata={"model_name": self.model, "usage": "estimated at four letters a token"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


def _tool_name(tool: Any) -> str:
    if isinstance(tool, BaseTool):
        return tool.name
    if isinstance(tool, dict):
        return str(tool.get("function", tool).get("name", ""))
    return str(getattr(tool, "__name__", ""))
