from .make_plan import plan, plan_study
from .manifest import LeftOut, Plan, PlannedFusion, RowFault, read_manifest, write_manifest
from .rules import MriRules, PartnerRules, Rules
from .running.run import Outcome
from .running.settings import Settings
from .running.status import Status, read_status

__all__ = [
    "LeftOut",
    "MriRules",
    "Outcome",
    "PartnerRules",
    "Plan",
    "PlannedFusion",
    "RowFault",
    "Rules",
    "Settings",
    "Status",
    "plan",
    "plan_study",
    "read_manifest",
    "read_status",
    "write_manifest",
]
