"""The real agent CLIs on this machine, and an environment in which they reach nothing but us.

`scripts/install_clis.py` puts the pinned versions into a cache folder; tests, benchmarks and the
demo find them there. Standard library only, because the installer imports it too.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CliName = Literal["claude", "codex", "opencode"]

# Launchers are scripts of a few KB; the programs themselves are far above 1 MB.
_LEAST_NATIVE_BYTES = 1_000_000
#: No account: the scripted model server takes any key. Long enough to look like one to the CLIs.
DUMMY_KEY = "sk-ant-api03-scripted-model-server-needs-no-key-0000"
#: A model whose tools Codex offers in the plain way (newer ones take JavaScript instead).
CODEX_MODEL = "gpt-5.5"


@dataclass(frozen=True, slots=True)
class Pin:
    """A version that the tests know. `folder` is its place in the cache."""

    cli: CliName
    package: str  #: on npm
    version: str
    folder: str
    native: tuple[str, ...]  #: globs below node_modules, best first


_CLAUDE = ("@anthropic-ai/claude-code-*/claude", "@anthropic-ai/claude-code/bin/claude.exe")
_CODEX = ("@openai/codex-*/vendor/*/bin/codex",)
_OPENCODE = ("opencode-ai/bin/opencode.exe", "opencode-*/bin/opencode")

#: Newest first for each CLI: the first one is what users have.
PINS = (
    Pin("claude", "@anthropic-ai/claude-code", "2.1.330", "claude-2.1.330", _CLAUDE),
    Pin("claude", "@anthropic-ai/claude-code", "2.1.197", "claude-2.1.197", _CLAUDE),
    Pin("codex", "@openai/codex", "0.169.0", "codex", _CODEX),
    Pin("opencode", "opencode-ai", "1.18.33", "opencode", _OPENCODE),
)


@dataclass(frozen=True, slots=True)
class Cli:
    """An installed CLI. `path` is the native program, not a launcher; `mode` is how it is run."""

    name: CliName
    version: str
    path: Path
    mode: Literal["headless", "pty"] = "headless"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the pinned CLIs are: `RELAY_RUNTIME_CLI_CACHE`, else the user's cache folder."""
    if chosen := environ.get("RELAY_RUNTIME_CLI_CACHE"):
        return Path(chosen)
    base = environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "relay-runtime" / "clis"


def pins_of(name: CliName) -> tuple[Pin, ...]:
    return tuple(pin for pin in PINS if pin.cli == name)


def find_cli(name: CliName, version: str | None = None, cache: Path | None = None) -> Cli | None:
    """The newest installed version, or exactly `version`. None: it is not in the cache."""
    root = cache_folder() if cache is None else cache
    for pin in pins_of(name):
        if version in (None, pin.version) and (path := native_program(pin, root / pin.folder)):
            return Cli(name, pin.version, path)
    return None


def native_program(pin: Pin, folder: Path) -> Path | None:
    """The program of `pin` in an npm install folder; None when absent or of another version."""
    modules = folder / "node_modules"
    try:
        package = json.loads((modules / pin.package / "package.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(package, dict) or package.get("version") != pin.version:
        return None
    for pattern in pin.native:
        for path in sorted(modules.glob(pattern), key=_baseline_order):
            if os.access(path, os.X_OK) and path.stat().st_size > _LEAST_NATIVE_BYTES:
                return path.resolve()
    return None


def _baseline_order(path: Path) -> tuple[bool, str]:
    """Builds for processors without AVX2 last where there is AVX2, else first."""
    try:
        modern = "avx2" in Path("/proc/cpuinfo").read_text("ascii", "replace")
    except OSError:
        modern = True
    return ("baseline" in str(path)) == modern, str(path)


# --- hermetic environment ---------------------------------------------------------------------------


def hermetic_env(cli: Cli, home: Path, model_url: str) -> dict[str, str]:
    """The whole environment of a session: nothing of this machine's user, no host but `model_url`.

    Writes what a user of the CLI would have set up below `home`, which becomes HOME, and makes
    `home/work` to work in. Calling it again resets those files and leaves conversations alone.
    """
    for folder in ("bin", "tmp", "work"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    link = home / "bin" / cli.name
    link.unlink(missing_ok=True)
    link.symlink_to(cli.path)
    env = {
        "PATH": f"{home}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "XDG_CONFIG_HOME": f"{home}/.config",
        "XDG_DATA_HOME": f"{home}/.local/share",
        "XDG_STATE_HOME": f"{home}/.local/state",
        "XDG_CACHE_HOME": f"{home}/.cache",
        "TMPDIR": f"{home}/tmp",
        "SHELL": "/bin/bash",
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "IS_SANDBOX": "1",  # lets Claude Code run as root without asking
    }
    return env | _SETUP[cli.name](cli, home, model_url)


def _set_up_claude(cli: Cli, home: Path, model_url: str) -> dict[str, str]:
    del cli
    config = {
        "hasCompletedOnboarding": True,
        "bypassPermissionsModeAccepted": True,
        "customApiKeyResponses": {"approved": [DUMMY_KEY[-20:]], "rejected": []},
        "projects": {str(home): {"hasTrustDialogAccepted": True}},  # counts for folders below
    }
    (home / ".claude.json").write_text(json.dumps(config), "utf-8")
    return {
        "ANTHROPIC_BASE_URL": model_url,
        "ANTHROPIC_API_KEY": DUMMY_KEY,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


# `instant_interrupt` is left as users have it: our driver must do without their help.
_CODEX_CONFIG = """\
model = "{model}"
model_provider = "scripted"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false

[features]
plugins = false            # else it asks github.com and chatgpt.com at every start
daemon_auto_start = false  # else the terminal interface leaves a daemon behind

[model_providers.scripted]
name = "scripted"
base_url = {base_url}
wire_api = "responses"
env_key = "SCRIPTED_MODEL_KEY"
request_max_retries = 1
stream_max_retries = 1
stream_idle_timeout_ms = 20000

[analytics]
enabled = false

[notice.model_migrations]
"{model}" = "gpt-6-sol"

[projects.{work}]
trust_level = "trusted"
"""


def _set_up_codex(cli: Cli, home: Path, model_url: str) -> dict[str, str]:
    del cli
    folder = home / ".codex"
    folder.mkdir(exist_ok=True)
    # A JSON string is a TOML basic string too, so paths need no escaping of their own.
    config = _CODEX_CONFIG.format(
        model=CODEX_MODEL,
        base_url=json.dumps(f"{model_url}/v1"),
        work=json.dumps(str(home / "work"), ensure_ascii=False),
    )
    (folder / "config.toml").write_text(config, "utf-8")
    return {"CODEX_HOME": str(folder), "SCRIPTED_MODEL_KEY": DUMMY_KEY}


def _set_up_opencode(cli: Cli, home: Path, model_url: str) -> dict[str, str]:
    folder = home / ".config" / "opencode"
    (folder / "node_modules").mkdir(parents=True, exist_ok=True)
    # It installs this package into its config folder unless these two files say it is there.
    needs = {"dependencies": {"@opencode-ai/plugin": cli.version}}
    (folder / "package.json").write_text(json.dumps(needs), "utf-8")
    lock = {"lockfileVersion": 3, "packages": {"": needs}}
    (folder / "package-lock.json").write_text(json.dumps(lock), "utf-8")
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Scripted",
        "options": {"baseURL": f"{model_url}/v1", "apiKey": DUMMY_KEY},
        "models": {"one": {"tool_call": True, "limit": {"context": 128000, "output": 8192}}},
    }
    config = {
        "model": "scripted/one",
        "small_model": "scripted/one",
        "autoupdate": False,
        "share": "disabled",
        "snapshot": False,
        "lsp": False,
        "formatter": False,
        "enabled_providers": ["scripted"],
        "provider": {"scripted": provider},
    }
    (folder / "opencode.json").write_text(json.dumps(config), "utf-8")
    return {
        "OPENCODE_DISABLE_AUTOUPDATE": "1",
        "OPENCODE_DISABLE_MODELS_FETCH": "1",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    }


_SETUP: dict[CliName, Callable[[Cli, Path, str], dict[str, str]]] = {
    "claude": _set_up_claude,
    "codex": _set_up_codex,
    "opencode": _set_up_opencode,
}


__all__ = [
    "CODEX_MODEL",
    "DUMMY_KEY",
    "PINS",
    "Cli",
    "CliName",
    "Pin",
    "cache_folder",
    "find_cli",
    "hermetic_env",
    "native_program",
    "pins_of",
]
