"""What no update could decide: Copier leaves it in the files and reports success all the same."""

from pathlib import Path

from hooks.commands import git

_SEARCHES = (
    ("diff-files", "--name-only", "--relative", "-z", "--diff-filter=U"),
    ("grep", "--files-with-matches", "--untracked", "-z", "-I", "-E", "^(<{7}|>{7}) "),
    ("ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", "*.rej"),
)


def find_conflicts(project: Path) -> list[str]:
    """Return the files that git calls unmerged, that hold conflict markers, or rejected hunks."""
    found = [git(project, *search) for search in _SEARCHES]
    paths = {
        path for outcome in found if outcome.ok for path in outcome.output.split("\0")
    }
    return sorted(paths - {""})
