"""What `kinetrack compare` does: read, compare, print, and write the page."""

import json
from collections.abc import Sequence
from pathlib import Path

from kinetrack.cli.compare.comparison import SPLIT_TAG, Compared, Comparison, read_comparison
from kinetrack.cli.compare.facts import describe
from kinetrack.cli.compare.packed import find_packed_clips
from kinetrack.cli.compare.text import print_text
from kinetrack.tracking.records import run_address
from kinetrack.using.pages.comparison import Contender, write_comparison_page


def print_comparison(
    runs: Sequence[str], *, as_json: bool, page: Path | None = None, root: Path | None = None
) -> None:
    """Print two or more results on the same test clips, each beside the first one.

    Args:
        page: where to write the page too.
        root: the project, for the pictures on the page.

    Raises:
        InputError: as `read_comparison`.
    """
    comparison = read_comparison(runs)
    if page:
        _write_page(page, comparison, root=root)
    if as_json:
        print(json.dumps(describe(comparison), indent=2))
    else:
        print_text(comparison)
        if page:
            print(f"\npage {page}")


def _write_page(path: Path, comparison: Comparison, *, root: Path | None) -> None:
    records = [one.result.record for one in comparison.results if one.result.record]
    splits = {record.tags[SPLIT_TAG] for record in records if SPLIT_TAG in record.tags}
    write_comparison_page(
        path,
        [_to_contender(one) for one in comparison.results],
        notes=comparison.notes,
        packed=find_packed_clips(root, splits) if root else None,
    )


def _to_contender(compared: Compared) -> Contender:
    result = compared.result
    return Contender(
        name=result.name,
        clips=result.clips,
        address=run_address(result.record) if result.record else "",
        difference=compared.difference,
        changed=compared.changed or (),
    )
