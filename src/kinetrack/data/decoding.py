"""How the pictures of a video are made into those that a network sees, beside its geometry.

A network learns from JPEG frames. What it is to tell later must come by the same way.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Gaps = Literal["keep", "repeat"]
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]


class Decoding(BaseModel):
    """What the bytes of a frame archive depend on; keys of section `frames` of params.yaml."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )

    gaps: Gaps
    """With "repeat", fill a gap in the time stamps with the frame before it, as ffmpeg does."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    """Pillow's scale; above 95 files only grow."""
    jpeg_subsampling: Subsampling
    """Resolution of the colours."""
