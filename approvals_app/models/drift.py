"""The facts under a gate: as they were when it opened, as they are now, and who has acknowledged the difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone

from approvals_app import drift
from approvals_app.exceptions import FactsChanged, NotYours
from approvals_app.models.sealed import SealedModel
from approvals_app.states import Channel, DecisionType, GateStatus
from sessions_app import chain
from sessions_app.append_only import AppendOnlyQuerySet
from sessions_app.exceptions import Conflict
from sessions_app.models import Session, SessionEvent, log_transaction

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User


class FactsAcknowledgement(SealedModel):
    """One person's word, written once, that they have seen which facts changed; `digest` is the gate's from then on."""

    gate = models.ForeignKey("approvals_app.Gate", on_delete=models.PROTECT, related_name="acknowledgements")
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    channel = models.CharField(max_length=10, choices=Channel.choices)
    facts = models.JSONField(encoder=DjangoJSONEncoder, help_text="The facts that they were shown.")
    changes = models.JSONField(encoder=DjangoJSONEncoder, help_text="[{name, was, now}]")
    digest = models.CharField(max_length=64, help_text="Over the gate's digest before and these facts.")
    created_at = models.DateTimeField(default=timezone.now)

    SEALED = ("id", "gate_id", "actor_id", "channel", "facts", "changes", "digest", "created_at")

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.actor} has seen the new facts of gate {self.gate_id}"


class OnFacts(models.Model):
    """The part of a gate that is about facts.

    `facts` are those it opened on, and stay; `facts_known` those that its digest stands for, which an acknowledgement
    replaces; `facts_now` the latest others that were read, if any. Each is a list of readings, one for each call whose
    tool's owner declared facts. Two fingerprints say whether the last two agree.
    """

    facts = models.JSONField(default=list, blank=True, encoder=DjangoJSONEncoder)
    facts_known = models.JSONField(default=list, blank=True, encoder=DjangoJSONEncoder)
    facts_now = models.JSONField(default=list, blank=True, encoder=DjangoJSONEncoder)
    fingerprint = models.CharField(max_length=64, blank=True, help_text="Of the facts that the digest stands for.")
    fingerprint_now = models.CharField(max_length=64, blank=True, help_text="Of the facts as last read.")

    if TYPE_CHECKING:
        objects: Any
        session: Session
        session_id: str
        calls: list[dict[str, Any]]
        digest: str
        acknowledgements: models.Manager[FactsAcknowledgement]

        @property
        def pending(self) -> bool: ...
        def refusal_for(self, user: User | AnonymousUser) -> str: ...
        def late(self) -> Conflict: ...

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert the gate; the facts that it opens on are the known ones."""
        if self.facts:
            self.facts_known = self.facts
            self.fingerprint = self.fingerprint_now = drift.fingerprint_of(self.facts)
        super().save(*args, **kwargs)

    @property
    def drifted(self) -> bool:
        """Whether the facts, when last read, were not those that an approval would be for."""
        return self.pending and self.fingerprint != self.fingerprint_now

    @property
    def changes(self) -> list[dict[str, Any]]:
        """What is not as the digest stands for: `[{tool, name, was, now}]`."""
        return drift.changes(self.facts_known, self.facts_now) if self.drifted else []

    @property
    def changes_in_words(self) -> str:
        """The same as the end of a sentence."""
        return drift.in_words(self.facts_known, self.facts_now) if self.drifted else ""

    # Verbs ------------------------------------------------------------------------------------------------------

    def look_again(self, *, max_age: float = drift.FRESH) -> bool:
        """Read the facts, unless that was done just now, and write down when they changed; return whether they agree.

        Call it outside of any transaction: services may take their time.
        """
        if not self.facts or not self.pending:
            return True
        found = drift.read(self.pk, self.calls, self.session.environment, max_age=max_age)
        if drift.fingerprint_of(found) != self.fingerprint_now:
            self._note(found)
        return not self.drifted

    def acknowledge(self, *, actor: User, channel: Channel, fingerprint: str) -> FactsAcknowledgement:
        """Write that this person has seen the new facts; an approval is for those from now on.

        `fingerprint` names what they were shown. Raises NotYours, what `late` says of a gate that has ended, or
        FactsChanged where that is not what was read last; Conflict where nothing is new.
        """
        self.refresh_from_db()
        if refusal := self.refusal_for(actor):
            raise NotYours(refusal)
        if not self.pending:
            raise self.late()
        if not self.drifted:
            raise Conflict("The facts are as this gate shows them; there is nothing to acknowledge.")
        if fingerprint != self.fingerprint_now:
            raise self._changed()
        seen, was, changed = self.facts_now, self.digest, self.changes
        digest = chain.digest([was, chain.as_stored(seen)])
        with log_transaction():
            if (
                not type(self)
                .objects.filter(digest=was, fingerprint_now=fingerprint)
                .swap_among(
                    self.pk, GateStatus.PENDING, digest=digest, facts_known=seen, facts_now=[], fingerprint=fingerprint
                )
            ):
                self.refresh_from_db()
                raise self._changed() if self.pending else self.late()
            self.refresh_from_db()
            taken = FactsAcknowledgement.objects.create(
                gate_id=self.pk, actor=actor, channel=channel, facts=seen, changes=changed, digest=digest
            )
            SessionEvent.append(
                self.session_id,
                "facts_acknowledged",
                {
                    "gate_id": self.pk,
                    "actor": actor.get_username(),
                    "channel": str(channel),
                    "changes": changed,
                    "facts": seen,
                    "fingerprint": fingerprint,
                    "digest": digest,
                    "acknowledgement_id": taken.pk,
                    "seal": taken.seal(),
                },
                actor=actor,
            )
        return taken

    def hold_facts(self, verdicts: Sequence[tuple[DecisionType, dict[str, Any] | None]]) -> None:
        """Read the facts once more for a decision that lets a call run; raises FactsChanged where they are others.

        Each call's verdict comes with the arguments of its edit.

        What they are goes into the grant, for the check at the tool. An edit may turn the call to something else,
        so its grant is for what that rests on as it is decided.
        """
        self._held: dict[str, dict[str, Any]] = {}
        if not self.facts or not any(kind in {DecisionType.APPROVE, DecisionType.EDIT} for kind, _ in verdicts):
            return
        if not self.look_again(max_age=0):
            raise self._changed()
        held = {reading["tool_call_id"]: reading for reading in self.facts_known}
        edited = [
            {**call, "args": args or {}}
            for call, (kind, args) in zip(self.calls, verdicts, strict=False)
            if kind == DecisionType.EDIT
        ]
        if edited:
            for call in edited:
                held.pop(call["tool_call_id"], None)
            held |= {reading["tool_call_id"]: reading for reading in drift.read_now(edited, self.session.environment)}
        self._held = held

    def held_for(self, tool_call_id: str) -> dict[str, Any]:
        """Return what a call's grant says of facts: nothing for a tool without any."""
        reading = getattr(self, "_held", {}).get(tool_call_id)
        return {"facts": reading} if reading else {}

    def _changed(self) -> FactsChanged:
        return FactsChanged(
            f"The facts changed since this was proposed: {self.changes_in_words}. "
            "Look at them and acknowledge them, then decide.",
            gate_id=self.pk,
            changes=self.changes,
            fingerprint=self.fingerprint_now,
        )

    def _note(self, found: list[dict[str, Any]]) -> None:
        """Write down the reading if it is news, once, whoever else has just read the same."""
        was, now = self.fingerprint_now, drift.fingerprint_of(found)
        with log_transaction():
            back = now == self.fingerprint
            if (
                type(self)
                .objects.filter(fingerprint_now=was, fingerprint=self.fingerprint)
                .swap_among(self.pk, GateStatus.PENDING, facts_now=[] if back else found, fingerprint_now=now)
            ):
                changed = [] if back else drift.changes(self.facts_known, found)
                SessionEvent.append(
                    self.session_id,
                    "facts_changed",
                    {
                        "gate_id": self.pk,
                        "changes": changed,
                        "what": "" if back else drift.in_words(self.facts_known, found),
                        "fingerprint": now,
                    },
                )
        self.refresh_from_db()


def first_facts(rows: Any) -> list[dict[str, Any]]:
    """Return what a new gate's calls rest on, from the ledger's rows that were judged before it opened."""
    return [{"tool_call_id": row.tool_call_id, "tool": row.tool, **row.facts} for row in rows if row.facts is not None]
