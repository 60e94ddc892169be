"""Which meteorology do scenes take, and where does it come from?"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stilt_assets.settings.typed import Name, Place, Strict, is_url

# Public archives by name, the finest cells first.
ANALYSES = ("hrrr", "hrrr_google", "nam12", "gfs0p25", "gdas1")
FORECASTS = ("hrrr_forecast",)
ARCHIVES = (*ANALYSES, *FORECASTS)
FINEST = "finest"


class MeteorologySettings(Strict):
    """Which meteorology, and where its ARL files are."""

    product: Name = Field("auto", description="name of the product, such as hrrr; auto: that of its source")
    source: Place | None = Field(
        None, description=f"folder of ARL files, searched with its subfolders, or one of {', '.join(ARCHIVES)}"
    )
    sources: Literal["finest"] | Annotated[list[Place], Field(min_length=1, max_length=20)] | None = Field(
        None,
        description="sources in the order of preference: a scene takes the first that holds its domain and hours; "
        "finest: all public archives of analyses, the finest cells first",
    )
    cache: Place | None = Field(
        None, description="folder of this machine for what archives lend; the user's cache folder if not given"
    )
    cache_size: float = Field(100.0, gt=0, le=1e6, description="GB (1e9 bytes) that the cache may hold")
    at_once: int = Field(4, ge=1, le=32, description="files that a process downloads side by side")
    mirrors: dict[str, Place] = Field(
        default_factory=dict,
        description="http(s) address by archive, in place of its public bucket's, with the same paths below it",
    )
    await_analysis: float = Field(
        14.0,
        ge=0,
        le=3660,
        description="days after its time that a scene which ran on a forecast waits for the analysis; 0: not at all",
    )
    wind: float | None = Field(
        None, gt=0, le=150, description="wind that the crop leaves room for, m s-1; the files' own if not given"
    )

    @model_validator(mode="after")
    def _says_from_where(self) -> Self:
        if (self.source is None) == (self.sources is None):
            raise ValueError("give one of source (one folder or archive) and sources (a list, or finest)")
        if self.sources is not None and self.product != "auto":
            raise ValueError("product is auto where sources are given: each names its own")
        if self.sources is not None and len(set(self.wanted)) != len(self.wanted):
            raise ValueError("sources name one twice")
        unknown = sorted(set(self.mirrors) - set(ARCHIVES))
        if unknown:
            raise ValueError(f"mirrors: no archive '{unknown[0]}'; known: {', '.join(ARCHIVES)}")
        if any(not url.startswith(("http://", "https://")) for url in self.mirrors.values()):
            raise ValueError("mirrors are http:// or https:// addresses")
        if self.cache is not None and is_url(self.cache):
            raise ValueError("cache is a folder of this machine")
        return self

    @property
    def wanted(self) -> tuple[str, ...]:
        """The sources in the order of preference: names of archives, and folders."""
        if self.source is not None:
            return (self.source,)
        return ANALYSES if self.sources == FINEST else tuple(self.sources or ())

    @property
    def is_one_folder(self) -> bool:
        """Whether all comes from one folder, as the user keeps it, and nothing is to be chosen or fetched."""
        return self.source is not None and self.source not in ARCHIVES

    def product_of(self, source: str) -> str:
        """What a source's product is called in results."""
        if self.product != "auto":
            return self.product
        return source if source in ARCHIVES else source.rstrip("/").rsplit("/", 1)[-1]
