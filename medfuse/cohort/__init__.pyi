from .make_plan import plan, plan_study
from .manifest import LeftOut, Plan, PlannedFusion, RowFault, read_manifest, write_manifest
from .rules import MriRules, PartnerRules, Rules

__all__ = [
    "LeftOut",
    "MriRules",
    "PartnerRules",
    "Plan",
    "PlannedFusion",
    "RowFault",
    "Rules",
    "plan",
    "plan_study",
    "read_manifest",
    "write_manifest",
]
