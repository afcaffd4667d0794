"""Install the pinned agent CLIs from npm into the cache folder, once.

    .venv/bin/python scripts/install_clis.py

What is complete is left alone. Each CLI is installed into a folder of its own beside its place and
renamed when it has run, so an interrupted install leaves nothing that looks complete.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from relay_runtime.testing.clis import (
    PINS,
    Cli,
    Pin,
    cache_folder,
    hermetic_env,
    native_program,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A CLI is 60 to 200 MB to download; a slower line than this needs a person to look at it.
INSTALL_TIMEOUT_S = 900
#: The slowest takes 2 s to say its version on a busy machine.
VERSION_TIMEOUT_S = 60


class InstallError(Exception):
    """Raised when a CLI cannot be had. The message says what to do."""


def main() -> int:
    cache = cache_folder()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache):
            for pin in PINS:
                _ensure(pin, cache)
    except (InstallError, OSError) as error:
        print(f"clis: {error}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Wait for another installer in the same cache, then keep others out."""
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in cache.glob(".install-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _ensure(pin: Pin, cache: Path) -> None:
    label = f"{pin.cli} {pin.version}"
    place = cache / pin.folder
    if _runs(pin, place):
        print(f"clis: {label} is there", flush=True)
        return
    print(f"clis: {label}: installing {pin.package}@{pin.version} …", flush=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".install-{pin.folder}-", dir=cache))
    try:
        _npm_install(pin, fresh)
        if not _runs(pin, fresh):
            raise InstallError(
                f"{label} was installed and does not run here: npm has no build of it for this "
                f"machine, or an incomplete one; try again with an empty npm cache "
                f"(npm cache clean --force)"
            )
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    print(f"clis: {label} installed in {place}", flush=True)


def _npm_install(pin: Pin, folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise InstallError(
            f"npm and node are needed to install {pin.cli}; install Node.js 18 or newer "
            f"(Debian: apt-get install nodejs npm) and run make clis again"
        )
    (folder / "package.json").write_text('{"private": true}\n', "utf-8")
    # Install scripts would only copy the native program, which is run where it is.
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--save-exact"]
    command += ["--engine-strict=false", "--loglevel=error", f"{pin.package}@{pin.version}"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InstallError(
            f"npm took more than {INSTALL_TIMEOUT_S} s for {pin.package}; check the network"
        ) from None
    if done.returncode != 0:
        last = "; ".join(done.stdout.strip().splitlines()[-5:])
        raise InstallError(f"npm could not install {pin.package}@{pin.version}: {last}")


def _runs(pin: Pin, folder: Path) -> bool:
    """Whether the program is there and says the version we want, with nothing of the user's."""
    path = native_program(pin, folder)
    if path is None:
        return False
    with tempfile.TemporaryDirectory(prefix="relay-runtime-") as home:
        cli = Cli(pin.cli, pin.version, path)
        env = hermetic_env(cli, Path(home), "http://127.0.0.1:9")
        try:
            said = subprocess.run(
                [os.fspath(path), "--version"],
                cwd=home,
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=VERSION_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
    return said.returncode == 0 and pin.version in said.stdout


if __name__ == "__main__":
    sys.exit(main())
