import os
import subprocess
import sys

PROGRAM = """
import sys
from tracker import device
from tracker.edge.enrich import bots
from tracker.processes.edge import create_edge
from tracker.settings import Settings

create_edge(Settings.from_env())
print(device._resolver.cache_info().misses, bots._bots.cache_info().misses)
loaded = set(sys.modules)
assert device.read("Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X)", "").type == "tablet"
assert bots.read("Googlebot/2.1") == "crawler: Googlebot"
print(*sorted(set(sys.modules) - loaded))
"""


def test_edge_that_starts_loads_what_its_first_click_needs(tmp_path):
    environ = {
        **os.environ,
        "TRACKER_DATA_DIR": str(tmp_path),
        "TRACKER_GEOIP_DB": "",
        "TRACKER_REDIS_URL": "redis://127.0.0.1:1",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environ, check=True
    )
    assert done.stdout == "1 1\n\n"
