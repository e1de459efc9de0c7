"""What a backlog costs that waits in a healthy broker: no message twice, and hardly any work."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks.end_to_end import WARM_UP, Ours
from benchmarks.figures import Goal, Result
from benchmarks.growth import Size
from benchmarks.lab import Lab
from benchmarks.stamps import Stamps
from generator.variants import Variant

MESSAGES = Goal(at_most=1.1)
RELAY = Goal(at_most=5, of_figure=True)


def bench(lab: Lab) -> Result:
    """Let all variants wait side by side, once, however many repetitions are asked for."""
    result = Result("backlog")
    number, seconds = lab.scale(100_000, 200), lab.scale(600, 1)
    stamps = Stamps(lab.folder / "backlog.stamps", WARM_UP)
    projects = {variant.name: lab.project(variant.name) for variant in lab.variants}
    ours = {
        name: Ours(lab, project, stamps, number) for name, project in projects.items()
    }
    with ExitStack() as stack:
        relays = {}
        for name, project in projects.items():
            url = ours[name].settings["DATABASE_URL"]
            lab.postgresql.query(url, "TRUNCATE tasks", Size(number, "due").statement)
            relays[name] = project.start("relay", **ours[name].settings)
            stack.callback(relays[name].stop)
            ours[name].wait_until_published(within=600)

        def watch(variant: Variant) -> tuple[int, float]:
            relay = relays[variant.name]
            before, began = relay.processor_seconds(), time.monotonic()
            settings = ours[variant.name].settings
            most: int = projects[variant.name].measure("depth", seconds, **settings)
            used = relay.processor_seconds() - before
            return most, used / (time.monotonic() - began)

        with ThreadPoolExecutor(len(projects)) as pool:
            watched = dict(zip(projects, pool.map(watch, lab.variants), strict=True))
    for name, (most, share) in watched.items():
        result.add(
            f"{name}, at most", "waiting tasks", "messages", [most], [number], MESSAGES
        )
        result.add(f"{name}, its relay", "", "% of a core", [100 * share], goal=RELAY)
    result.versions = lab.postgresql.version
    return result
