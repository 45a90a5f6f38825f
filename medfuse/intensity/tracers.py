"""Name tracers of PET and SPECT by what headers call them."""

from __future__ import annotations

import re

TRACERS: dict[str, tuple[str, ...]] = {
    "FDG": ("fdg", "fluorodeoxyglucose", "deoxyglucose", "fludeoxyglucose"),
    "FDOPA": ("fdopa", "f dopa", "fluorodopa", "l dopa"),
    "FET": ("fet", "fluoroethyltyrosine", "fluoroethyl l tyrosine"),
    "FLT": ("flt", "fluorothymidine", "fluoro l thymidine"),
    "FMISO": ("fmiso", "fluoromisonidazole"),
    "methionine": ("methionine", "met"),
    "choline": ("choline", "fluorocholine", "fch"),
    "florbetapir": ("florbetapir", "amyvid", "av45"),
    "florbetaben": ("florbetaben", "neuraceq"),
    "flutemetamol": ("flutemetamol", "vizamyl"),
    "flortaucipir": ("flortaucipir", "tauvid", "av1451"),
    "PiB": ("pib", "pittsburgh compound b"),
    "PSMA": ("psma", "psma 11", "psma 617", "piflufolastat", "dcfpyl"),
    "DOTATATE": ("dotatate",),
    "DOTATOC": ("dotatoc", "edotreotide"),
    "DOTANOC": ("dotanoc",),
    "FAPI": ("fapi",),
    "sodium fluoride": ("naf", "sodium fluoride"),
    "water": ("h2o", "water"),
    "ammonia": ("ammonia", "nh3"),
    "rubidium": ("rubidium", "rubidium chloride"),
    "raclopride": ("raclopride",),
    "HMPAO": ("hmpao", "exametazime"),
    "ECD": ("ecd", "bicisate"),
    "ioflupane": ("ioflupane", "datscan", "fp cit"),
    "sestamibi": ("sestamibi", "mibi"),
    "MDP": ("mdp", "medronate"),
    "thallium": ("thallium", "thallous chloride"),
}
"""Short names, and the words by which headers name them: those of PS3.16 CID 25 and 4021, and what scanners write."""


def tracer_named(*texts: object) -> str:
    """The short name of the tracer that the first of some texts names; empty where none does.

    Texts of headers are free, and may hold anything: only names of `TRACERS` are passed on.
    """
    for text in texts:
        words = f" {' '.join(re.findall('[a-z0-9]+', str(text).lower()))} "
        for name, spellings in TRACERS.items():
            if any(f" {spelling} " in words for spelling in spellings):
                return name
    return ""
