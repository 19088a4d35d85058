"""Stage `sample`: generate the built-in data set, in which only the motion tells the class."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import Field

from kinetrack.data.motion import write_motion_clips
from kinetrack.files import atomic_folder
from kinetrack.params import Section, load_section
from kinetrack.stages.door import run


class SampleParams(Section):
    """Section `sample` of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    """Another seed gives other looks and positions, the same classes."""
    groups: Annotated[int, Field(ge=2, le=99)]
    """Groups a class."""
    clips_per_group: Annotated[int, Field(ge=1, le=99)]
    """Clips a group."""
    num_frames: Annotated[int, Field(ge=32, le=1000)]
    """Frames of the shortest clip; another group's may have a few more."""


def generate(params: SampleParams, *, videos: Path) -> int:
    """Write the clips and return their number; the folder appears whole or not at all."""
    with atomic_folder(videos) as folder:
        paths = write_motion_clips(
            folder,
            seed=params.seed,
            groups=params.groups,
            clips_per_group=params.clips_per_group,
            num_frames=params.num_frames,
        )
    return len(paths)


def main(videos: Path) -> None:
    """Generate the data set below VIDEOS."""
    count = generate(load_section(SampleParams, "sample"), videos=videos)
    typer.echo(f"sample: {count} clips in {videos}")


if __name__ == "__main__":
    run("sample")
