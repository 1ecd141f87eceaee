"""The workloads W1 to W9, by name."""

from chaos.workloads.bank import Bank
from chaos.workloads.base import Workload
from chaos.workloads.churn import Churn
from chaos.workloads.mixed import Mixed
from chaos.workloads.registers import Registers
from chaos.workloads.sets import Counters, Facts, Sequences
from chaos.workloads.shop import Shop
from chaos.workloads.types import Types

WORKLOADS: dict[str, type[Workload]] = {
    kind.name: kind
    for kind in (Registers, Facts, Counters, Bank, Churn, Mixed, Sequences, Types, Shop)
}

__all__ = ["WORKLOADS", "Workload"]
