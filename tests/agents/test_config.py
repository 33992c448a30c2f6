"""What is wrong with a configuration file is said with its file, its line and what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from sessions_app.agents import config as module
from sessions_app.agents.config import PROVIDERS, Config, ConfigError, load
from sessions_app.agents.consequence import ToolWords, Variant
from sessions_app.agents.durations import duration
from sessions_app.agents.risk import RiskRule

ROOT = Path(__file__).resolve().parents[2]
FIX = "[[risk.rules]]\nname = 'x'\ntool = 'local_remediation:apply_fix'\nrisk = 'high'\n"
SHIPPED_TOOL = "local_remediation:apply_fix"

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        path = tmp_path / "clm.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def test_the_shipped_file_is_a_whole_configuration() -> None:
    config = load()
    assert config.models.default == "offline"
    assert config.environments.names == ("production", "staging", "dev", "local")
    assert config.approvals.expires_after == timedelta(hours=4)
    assert config.approvals.four_eyes is True
    assert (config.limits.concurrent_runs, config.limits.max_queued_sessions) == (16, 10_000)
    assert set(config.agents) == {"triage", "deep_investigator", "resolution"}


def test_a_file_is_laid_over_the_shipped_one(write: Write) -> None:
    config = load(
        write("""
[approvals]
expires_after = "15m"
[environments]
names = ["prod"]
[agents.triage]
model = "ollama:gpt-oss:20b"
[tools."local_remediation:apply_fix"]
breaks = "Ask first."
""")
    )
    assert config.approvals.expires_after == timedelta(minutes=15)
    assert config.approvals.four_eyes is True
    assert config.environments.names == ("prod",)
    assert config.agents["triage"].model == "ollama:gpt-oss:20b"
    assert config.tools[SHIPPED_TOOL].breaks == "Ask first."
    assert config.tools[SHIPPED_TOOL].variants == load().tools[SHIPPED_TOOL].variants


def test_own_rules_are_tried_first_and_replace_shipped_ones_of_their_name(write: Write) -> None:
    config = load(
        write("""
[[risk.rules]]
name = "local_pages"
tool = "local_remediation:notify_oncall"
environments = ["local"]
risk = "low"
[[risk.rules]]
name = "apply_fix"
tool = "local_remediation:apply_fix"
risk = "forbidden"
""")
    )
    names = [rule.name for rule in config.risk.rules]
    assert names[:2] == ["local_pages", "apply_fix"]
    assert names.count("apply_fix") == 1
    assert set(names[2:]) == {rule.name for rule in load().risk.rules} - {"apply_fix"}


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[models\ndefault = 1", 1, "is not TOML here"),
        ("[models]\n\ndefault = offline", 3, "Put text in quotes"),
        ("[models]\na = 1\na = 2", 3, "is not TOML here"),
        ("[models]\nnote = '''\nnever ended", 3, "is not TOML here"),
        ("\n[model]\ndefault = 'offline'", 2, "model: there is no such key: did you mean 'models'?"),
        ("[limits]\nconcurrent_runs = 4\nmax_quary_chars = 3", 3, "did you mean 'max_query_chars'?"),
        (
            "[limits]\nconcurrent_runs = '4'",
            2,
            "limits.concurrent_runs: must be a whole number, without quotes",
        ),
        ("[limits]\nconcurrent_runs = true", 2, "limits.concurrent_runs: must be a whole number"),
        ("[limits]\nconcurrent_runs = 0", 2, "must be greater than or equal to 1"),
        ("limits = 3", 1, "limits: must be a table"),
        ("[ui]\nbrand_name = 3", 2, "ui.brand_name: must be text in quotes"),
        ("[ui]\nbrand_name = ''", 2, "ui.brand_name: must not be empty"),
        ("[ui]\nbrand_logo_url = 'https://elsewhere.example/x.png'", 2, "must be a path on this server"),
        ("[ui]\nbrand_logo_url = 'javascript:alert(1)'", 2, "must be a path on this server"),
        ("[ui]\napproval_rationale_templates = 'yes'", 2, "must be a list"),
        ("[ui]\napproval_rationale_templates = [\n'yes',\n3]", 4, "must be text in quotes"),
        ("[approvals]\nfour_eyes = 'no'", 2, "approvals.four_eyes: must be true or false"),
        ("[approvals]\nexpires_after = '4 hours'", 2, 'write for example "4h"'),
        ("[approvals]\nexpires_after = 4", 2, 'write for example "4h"'),
        ("[environments]\nnames = []", 2, "environments.names"),
        ("[environments]\nnames = ['Dev Env']", 2, "'Dev Env' must be lower-case letters"),
        ("[environments]\nnames = ['dev', 'dev']", 2, "has a name twice"),
        ("[models]\ndefault = 'olama:gpt-oss:20b'", 2, "did you mean 'ollama'?"),
        ("[models]\ndefault = 'gpt-oss'", 2, 'must be "offline" or "provider:model"'),
        ("[models]\ndefault = 'ollama:'", 2, 'must be "offline" or "provider:model"'),
        ("[models]\ndefault = 3", 2, "models.default: must be text in quotes"),
        ("[models]\nbase_url = 'localhost:11434'", 2, "must be an http or https address"),
        ("[models]\nbase_url = 'http://me:hunter2@x'", 2, "must have no user or password"),
        ("[models]\ntimeout_seconds = -1", 2, "must be greater than 0"),
        ("[models]\nmax_retries = 99", 2, "must be less than or equal to 10"),
        ("[models]\ntemperature = 'warm'", 2, "must be a number, without quotes"),
        ("[models]\noptions = 3", 2, "must be a table"),
        ("[agents.triage]\nmodel = 'opneai:x'", 2, "agents.triage.model: names no provider"),
        ("[agents.triage]\ntemprature = 1", 2, "did you mean 'temperature'?"),
        (
            "[agents.triag]\nmodel = 'offline'",
            1,
            "agents.triag: there is no such agent: did you mean 'triage'?",
        ),
        ("[agents.chef]", 1, "there is no such agent: write one of triage, deep_investigator, resolution."),
        ("[tools.apply_fix]", 1, 'tools.apply_fix: must be "server:tool"'),
        ('\n[tools."local_remediation:aply_fix"]', 2, "did you mean 'local_remediation:apply_fix'?"),
        ('[tools."local_remedation:apply_fix"]', 1, "did you mean 'local_remediation:apply_fix'?"),
        ('[tools."local_inc:mark_resolved"]\nsentence = "pay $5"', 2, "has a $ that opens no ${argument}"),
        ('[tools."local_inc:mark_resolved"]\nsentence = "a ** b"', 2, "has a ** without its pair"),
        ('[tools."local_inc:mark_resolved"]\nreversable = true', 2, "did you mean 'reversible'?"),
        (
            '[[tools."local_inc:mark_resolved".variants]]\nwhen = {}\n'
            '[[tools."local_inc:mark_resolved".variants]]\nsentence = "x"',
            3,
            "when: is missing",
        ),
        ("[risk]\nrules = 3", 2, "risk.rules: must be a list"),
        ("[risk]\nrules = [3]", 2, "risk.rules[0]: must be a table"),
        ("\n[[risk.rules]]\nname = 'x'\nrisk = 'low'", 2, "risk.rules[0].tool: is missing"),
        (
            "[[risk.rules]]\nname = 'x'\ntool = 'local_inc:*'\nrisk = 'low'\n"
            "[[risk.rules]]\nname = 'y'\ntool = 'local_inc:*'\nrisk = 'hi'",
            8,
            "risk.rules[1].risk: must be one of low, medium, high, forbidden",
        ),
        ("[[risk.rules]]\nname = 'x'\ntool = 'local_inc'\nrisk = 'low'", 3, 'must be "server:tool"'),
        (
            "[[risk.rules]]\nname = 'x'\ntool = 'local_remediation:aply_fix'\nrisk = 'low'",
            3,
            "matches no tool: did you mean 'local_remediation:apply_fix'?",
        ),
        (
            "[[risk.rules]]\nname = 'x'\ntool = 'local_remedation:*'\nrisk = 'low'",
            3,
            "did you mean 'local_remediation:*'?",
        ),
        (
            "[[risk.rules]]\nname = 'x'\ntool = 'local_inc:*'\nrisk = 'low'\nenvironments = ['prodution']",
            5,
            "'prodution' is no environment: did you mean 'production'?",
        ),
        ("[[risk.rules]]\nname = 'X y'\ntool = 'local_inc:*'\nrisk = 'low'", 2, "must be lower-case letters"),
        ("[[risk.rules]]\nname = 'unlisted'\ntool = 'local_inc:*'\nrisk = 'low'", 2, "a name of its own"),
        (
            "[[risk.rules]]\nname = 'x'\ntool = 'local_inc:*'\nrisk = 'low'\n"
            "[[risk.rules]]\nname = 'x'\ntool = 'local_inc:*'\nrisk = 'low'",
            6,
            "'x' is the name of two rules",
        ),
        (
            "[[risk.rules]]\nname = 'x'\ntool = 'local_inc:*'\nrisk = 'low'\nwhen = { a = { b = 1 } }",
            5,
            "risk.rules[0].when.a",
        ),
        ("[approvals]\non_expiry = 'ask again'", 2, "approvals.on_expiry: must be one of reject, stop, escalate."),
        ("[approvals.questions]\non_expiry = 'stop it'", 2, "must be one of reject, stop, escalate."),
        ("[approvals.questions]\nexpire_after = '1h'", 2, "did you mean 'expires_after'?"),
        ("[approvals.questions]\nexecution_expires_after = '1h'", 2, "there is no such key"),
        (f"{FIX}on_expiry = 'allow'", 5, "risk.rules[0].on_expiry: must be one of reject, stop, escalate."),
        (f"{FIX}expires_after = 30", 5, "risk.rules[0].expires_after: must be a number of s, m, h or d in quotes"),
        (f"{FIX}execution_expires_after = '0m'", 5, 'write for example "4h"'),
        (
            "[[risk.rules]]\nname = 'x'\ntool = 'local_inc:*'\nrisk = 'low'\non_expiry = 'stop'",
            5,
            'is for calls that wait for a person: write risk = "high", or leave this out.',
        ),
    ],
)
def test_every_error_names_the_file_the_line_and_the_key(write: Write, text: str, line: int, says: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert f"{path}, line {line}: " in str(caught.value)
    assert says in str(caught.value)
    assert [problem.line for problem in caught.value.problems] == [line]


def test_everything_that_is_wrong_is_said_at_once(write: Write) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write("[limits]\nconcurrent_runs = 0\nx = 1\n[approvals]\nfour_eyes = 1\n"))
    assert {problem.line for problem in caught.value.problems} == {2, 3, 5}
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    "text",
    [
        "[models]\napi_key = 'sk-hunter2'",
        "[models]\nopenai_api_key = 'sk-hunter2'",
        "[models]\napi_key_env = 'sk-hunter2'",
        "[models]\nbase_url = 'https://x:sk-hunter2@y'",
        "[models.options]\ndefault_headers = { Authorization = 'Bearer sk-hunter2' }",
        "[models.options]\ndefault_headers = { x-api-key = 'sk-hunter2' }",
        "[agents.triage]\napi_key = 'sk-hunter2'",
        "[agents.triage.options]\nazure_ad_token = 'sk-hunter2'",
    ],
)
def test_a_key_in_the_file_is_refused_and_not_repeated(write: Write, text: str) -> None:
    with pytest.raises(ConfigError, match=r"line 2.*environment variable") as caught:
        load(write(text))
    assert "hunter2" not in str(caught.value)


def test_a_count_of_tokens_is_no_secret(write: Write) -> None:
    load(write("[models.options]\nmax_tokens = 100\nnum_ctx = 8192"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.toml", tmp_path):
        with pytest.raises(ConfigError, match=r"cannot be read .*: point CLM_CONFIG at"):
            load(path)


def test_a_file_that_is_no_text_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "clm.toml"
    path.write_bytes(b"[ui]\n\nbrand_name = '\xff'\n")
    with pytest.raises(ConfigError, match="line 3: is not UTF-8 text"):
        load(path)


def test_the_line_is_right_with_a_byte_order_mark_and_the_line_ends_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "clm.toml"
    path.write_bytes(b"\xef\xbb\xbf[ui]\r\nbrand_name = 'Us'\r\nbrand = 1\r\n")
    with pytest.raises(ConfigError, match=r"line 3: ui\.brand:"):
        load(path)


def test_a_tool_of_ones_own_server_is_declared_by_its_table(write: Write) -> None:
    config = load(
        write("""
[tools."github:open_issue"]
sentence = "open an issue"
[[risk.rules]]
name = "issues"
tool = "github:*"
risk = "medium"
""")
    )
    assert config.tools["github:open_issue"].sentence == "open an issue"


def test_the_agents_of_ones_own_graphs_are_taken_but_slips_are_not(write: Write) -> None:
    config = load(write("[agents.accountant]\nmodel = 'ollama:m'"), own_graphs=True)
    assert config.agents["accountant"].model == "ollama:m"
    with pytest.raises(ConfigError, match="did you mean 'triage'"):
        load(write("[agents.triags]"), own_graphs=True)


def test_nothing_can_be_changed_after_loading() -> None:
    config = load()
    with pytest.raises(ValueError, match="frozen"):
        config.limits.concurrent_runs = 1


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("4h", 14_400), ("2d", 172_800), ("1s", 1)])
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "4", "h", "0h", "-1h", "1.5h", "1w", "4H", " 4h", "4h ", "٤h", "9999999d"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="for example"):
        duration(text)


def test_the_providers_are_those_that_langchain_knows() -> None:
    from langchain.chat_models.base import _BUILTIN_PROVIDERS

    assert set(PROVIDERS) == set(_BUILTIN_PROVIDERS)


def test_the_extras_that_errors_name_exist() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for extra in PROVIDERS.values() if extra} <= set(extras)


def test_the_shipped_file_describes_every_tool_and_no_other() -> None:
    from sessions_app.agents.tools import CATALOGUE

    assert set(load().tools) == set(CATALOGUE)


def test_the_process_reads_its_file_once_and_again_when_the_setting_changes(write: Write, settings: Any) -> None:
    path = write("[ui]\nbrand_name = 'Us'")
    settings.CLM_CONFIG = path
    assert module.current().ui.brand_name == "Us"
    assert module.current() is module.current()
    settings.CLM_CONFIG = None
    assert module.current().ui.brand_name == "CLM"


def test_reading_the_configuration_needs_no_settings_and_no_provider() -> None:
    code = (
        "import sys; from sessions_app.agents import config, models, risk, consequence; config.load();"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & "
        "{'langchain', 'langchain_core', 'langgraph', 'langchain_openai', 'langchain_ollama', 'openai'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, env={})
    assert done.stdout.strip() == "[]"


def fields(*models: type[BaseModel]) -> set[str]:
    """Every field name of the models and of the models inside them."""
    names: set[str] = set()
    waiting, seen = list(models), set[type[BaseModel]]()
    while waiting:
        model = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        names |= set(model.model_fields)
        for field in model.model_fields.values():
            waiting += [
                found
                for found in vars(module).values()
                if isinstance(found, type) and issubclass(found, BaseModel) and found.__name__ in repr(field.annotation)
            ]
    return names


def test_every_key_is_in_the_docs() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z_]+)`", text))
    assert fields(Config, RiskRule, ToolWords, Variant) - documented == set()


def test_every_variable_of_the_settings_is_in_the_docs() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    code = (ROOT / "clm_site" / "settings.py").read_text(encoding="utf-8")
    named = set(re.findall(r'env_\w+\(\s*"([A-Z_]+)"', code))
    assert named - set(re.findall(r"`([A-Z_]+)`", text)) == set()


def test_the_example_in_the_docs_loads(write: Write) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    examples = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert examples
    for example in examples:
        load(write(example))
