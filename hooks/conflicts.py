"""Find what an update could not decide.

Copier leaves it in the files and reports success all the same.
"""

from pathlib import Path

from hooks.commands import git

_SEARCHES = (
    ("diff-files", "--name-only", "--relative", "-z", "--diff-filter=U"),
    ("grep", "--files-with-matches", "--untracked", "-z", "-I", "-E", "^(<{7}|>{7}) "),
    ("ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", "*.rej"),
)


def find_conflicts(project: Path) -> list[str]:
    """Return files that are unmerged, hold conflict markers or are rejected hunks."""
    found = [git(project, *search) for search in _SEARCHES]
    paths = {
        path for outcome in found if outcome.ok for path in outcome.output.split("\0")
    }
    return sorted(paths - {""})
