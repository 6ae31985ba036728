"""Section 3 of the paper, one file a subsection; `shnet.py` puts them together as Figure 2 does."""

from shnet_lib.model.shnet import TABLE_2, TABLE_4, ModelConfig, SHNet

__all__ = ["TABLE_2", "TABLE_4", "ModelConfig", "SHNet"]
