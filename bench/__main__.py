"""Every benchmark, one table after another: `make bench`, or `python -m bench [NAME…]`.

Each runs in a process of its own, so that none pays for what another has imported. Figures are
ratios to limits and anchors measured in the same run; a quiet machine gives the truest.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys

NAMES = ("cli", "holder", "screen", "attach", "tuis", "relay", "footprint", "delivery")


def main() -> int:
    names = sys.argv[1:] or NAMES
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**30
    print(
        f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, {memory} GiB,"
        f" Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )
    failed = 0
    for name in names:
        print(f"\n== {name}", flush=True)
        failed |= subprocess.run([sys.executable, "-m", f"bench.{name}"], check=False).returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
