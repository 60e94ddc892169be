"""What does a machine of the cluster lend to pods, if the work is done on one?"""

from pydantic import Field

from stilt_assets.settings.typed import Strict


class NodeSettings(Strict):
    """What one node of the pool that runs packs has for pods: allocatable, less what the system's own pods take."""

    cores: float = Field(gt=0, le=4096, description="cores")
    memory: float = Field(gt=0, le=2**20, description="GiB of memory")
    scratch: float = Field(gt=0, le=2**20, description="GiB of local disk for scratch files")


class ClusterSettings(Strict):
    """Where pods run. Changes no number of a result."""

    node: NodeSettings | None = Field(None, description="a node that packs run on; nothing is refused if not given")
