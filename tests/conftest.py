"""What all tests have in common."""

import gc
import os

from hypothesis import HealthCheck, settings

# A machine that does other work as well is no fault of what is tried here. Examples are the same in
# every run, as the seeds of the simulator are; HYPOTHESIS_PROFILE=nightly draws others.
settings.register_profile(
    "promptedge", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("nightly", settings.get_profile("promptedge"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "promptedge"))

# What asks a server here asks it itself, whatever proxy the machine has for the world outside.
for name in ("http_proxy", "https_proxy", "all_proxy"):
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # all that was imported stays, and need not be looked through again and again
