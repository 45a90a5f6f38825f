from .manifest import LeftOut, Plan, PlannedFusion, RowFault, read_manifest, write_manifest

__all__ = ["LeftOut", "Plan", "PlannedFusion", "RowFault", "read_manifest", "write_manifest"]
